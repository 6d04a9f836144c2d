"""Signed URLs are those that Google's own libraries make."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from nixery.storage.objects.v4_signature import presigned_url

VECTORS = Path(__file__).parents[1] / "gcs" / "vectors" / "v4_signatures.json"
ACCOUNT = "test-iam-credentials@dummy-project-id.iam.gserviceaccount.com"


def plain(vector: dict[str, Any]) -> bool:
    """Whether a vector is of a GET with nothing but a path. In those with a port the port is not
    signed, though clients send it with the host."""
    special = {"headers", "queryParameters"} & vector.keys()
    has_port = ":" in urlsplit(vector["expectedUrl"]).netloc
    return vector["method"] == "GET" and not special and not has_port


TESTS = list(filter(plain, json.loads(VECTORS.read_text("utf-8"))["signingV4Tests"]))


@pytest.mark.parametrize("vector", TESTS, ids=lambda vector: str(vector["description"]))
def test_vectors(vector: dict[str, Any]) -> None:
    """Of Google's published examples, the same text is signed, and the same URL comes of it."""
    url, _, query = vector["expectedUrl"].partition("?")
    signed: list[str] = []

    def sign(text: bytes) -> bytes:
        signed.append(text.decode("ascii"))
        return bytes.fromhex(query.rpartition("X-Goog-Signature=")[2])

    since = datetime.fromisoformat(vector["timestamp"]).timestamp()
    made = presigned_url(url, ACCOUNT, sign, since, int(vector["expiration"]))
    assert signed == [vector["expectedStringToSign"]]
    assert made == vector["expectedUrl"]


def test_there_are_vectors() -> None:
    """Several of the examples are such as clients are sent to."""
    assert len(TESTS) >= 5
