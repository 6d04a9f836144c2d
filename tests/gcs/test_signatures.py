# mypy: disable-error-code="import-untyped,untyped-decorator"
"""V4 signatures: Google's own are good, and nothing else is."""

import hashlib
import json
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import attrs
import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from hypothesis import given
from hypothesis import strategies as st

from tests.gcs.answers import Asked, Refused
from tests.gcs.signatures import LONGEST, SKEW, check_payload, verify

VECTORS = Path(__file__).parent / "vectors"
ACCOUNT = "test-iam-credentials@dummy-project-id.iam.gserviceaccount.com"
TESTS: list[dict[str, Any]] = json.loads((VECTORS / "v4_signatures.json").read_text())[
    "signingV4Tests"
]
_key = load_pem_public_key((VECTORS / "v4_public_key.pem").read_bytes())
assert isinstance(_key, RSAPublicKey)
KEYS = {ACCOUNT: _key}


def ask(vector: dict[str, Any]) -> Asked:
    """The request that a vector's URL is for."""
    url = urlsplit(vector["expectedUrl"])
    headers = {name.lower(): value for name, value in vector.get("headers", {}).items()}
    body = headers.get("x-testcasemetadata-payload-value", "").encode()
    own = {"host": url.netloc, **headers}
    return Asked(vector["method"], url.path, url.query, own, body)


def moment(vector: dict[str, Any]) -> float:
    """When a vector was signed, in seconds since 1970."""
    return datetime.fromisoformat(vector["timestamp"]).timestamp()


PLAIN, AT = ask(TESTS[0]), moment(TESTS[0])


def refuse(asked: Asked, now: float = AT) -> Refused:
    """The error that a request is refused with."""
    with pytest.raises(Refused) as caught:
        verify(asked, KEYS, now)
    return caught.value


@pytest.mark.parametrize("vector", TESTS, ids=lambda vector: str(vector["description"]))
def test_vectors(vector: dict[str, Any]) -> None:
    """All that Google signed is good from when it was signed until it expires."""
    asked, at, lifetime = ask(vector), moment(vector), int(vector["expiration"])
    assert verify(asked, KEYS, at) == ACCOUNT
    assert verify(asked, KEYS, at - SKEW) == ACCOUNT
    assert verify(asked, KEYS, at + lifetime) == ACCOUNT
    late = refuse(asked, at + lifetime + 1)
    assert (late.status, late.reason) == (400, "ExpiredToken")
    early = refuse(asked, at - SKEW - 1)
    assert (early.status, early.reason) == (403, "RequestTimeTooSkewed")


@pytest.mark.parametrize("vector", TESTS, ids=lambda vector: str(vector["description"]))
def test_tampered_vectors(vector: dict[str, Any]) -> None:
    """No other method, object, host or header goes with a signature."""
    asked, at = ask(vector), moment(vector)
    other = "PUT" if asked.method == "GET" else "GET"
    headers = [{**asked.headers, name: "other"} for name in asked.headers]
    changes: list[dict[str, Any]] = [
        {"method": other},
        {"path": asked.path + "x"},
        {"raw_query": asked.raw_query + "&x"},
        *({"headers": some} for some in headers),
    ]
    for change in changes:
        assert refuse(attrs.evolve(asked, **change), at).status in (400, 403)


@given(st.data())
def test_any_character(data: st.DataObject) -> None:
    """A URL of which any character is another one is not good."""
    part = data.draw(st.sampled_from(["method", "path", "raw_query"]))
    text: str = getattr(PLAIN, part)
    at = data.draw(st.integers(0, len(text) - 1))
    new = data.draw(st.sampled_from("abcXYZ019-._~%&=/").filter(lambda char: char != text[at]))
    changes: dict[str, Any] = {part: text[:at] + new + text[at + 1 :]}
    assert refuse(attrs.evolve(PLAIN, **changes)).status in (400, 403)


@given(st.data())
def test_any_parameter(data: st.DataObject) -> None:
    """None of the query's parameters may be missing, be there twice, or have another value."""
    pairs = PLAIN.raw_query.split("&")
    at = data.draw(st.integers(0, len(pairs) - 1))
    name, _, value = pairs[at].partition("=")
    other = data.draw(st.text("abcdef0123456789", max_size=8))
    for query in (
        pairs[:at] + pairs[at + 1 :],
        [*pairs, pairs[at]],
        [*pairs[:at], f"{name}={value}{other}0", *pairs[at + 1 :]],
    ):
        changed = attrs.evolve(PLAIN, raw_query="&".join(query))
        assert refuse(changed).status in (400, 403)


@given(st.permutations(PLAIN.raw_query.split("&")))
def test_order(pairs: list[str]) -> None:
    """The order of the parameters is of no matter."""
    assert verify(attrs.evolve(PLAIN, raw_query="&".join(pairs)), KEYS, AT) == ACCOUNT


def test_lifetime() -> None:
    """No signature is good for more than a week, or for no time at all."""
    for seconds in ("0", str(LONGEST + 1), "-1", "1e3", ""):
        query = PLAIN.raw_query.replace("Expires=10", f"Expires={seconds}")
        refused = refuse(attrs.evolve(PLAIN, raw_query=query))
        assert (refused.status, refused.reason) == (400, "AuthorizationQueryParametersError")


def test_unknown_account() -> None:
    """An account whose key is not known, or is another one's, opens nothing."""
    with pytest.raises(Refused) as caught:
        verify(PLAIN, {}, AT)
    assert caught.value.status == 403


def test_unsigned_header() -> None:
    """A header of Google's that isn't signed makes a URL bad; another header does not."""
    more = {**PLAIN.headers, "range": "bytes=0-1", "accept": "*/*"}
    assert verify(attrs.evolve(PLAIN, headers=more), KEYS, AT) == ACCOUNT
    own = {**PLAIN.headers, "x-goog-meta-a": "b"}
    assert refuse(attrs.evolve(PLAIN, headers=own)).status == 400


def test_port() -> None:
    """Clients may sign the host without the port that they name."""
    ported = {"host": PLAIN.headers["host"] + ":443"}
    assert verify(attrs.evolve(PLAIN, headers=ported), KEYS, AT) == ACCOUNT


def test_signed_payload() -> None:
    """Where the body is signed, another one isn't good."""
    signed = {"x-goog-content-sha256": hashlib.sha256(b"body").hexdigest()}
    check_payload(attrs.evolve(PLAIN, headers=signed, body=b"body"))
    check_payload(attrs.evolve(PLAIN, body=b"any"))
    with pytest.raises(Refused):
        check_payload(attrs.evolve(PLAIN, headers=signed, body=b"other"))
