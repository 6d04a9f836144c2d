# mypy: disable-error-code="import-untyped,untyped-decorator"
"""Google's own client works with the server."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
import requests
from google.cloud import storage
from google.oauth2 import service_account
from twisted.internet.threads import deferToThread

from tests.gcs.server import GcsServer
from tests.waiting import HUNG


class Local(service_account.Credentials):
    """An account whose requests go to the server alone."""

    def _is_regional_access_boundary_lookup_required(self) -> bool:
        """No: the answer would be asked for at an address of Google's, in a thread."""
        return False


@pytest.fixture
def client(server: GcsServer, tmp_path: Path) -> Any:
    """Google's client, with an account's key."""
    server.account.write(tmp_path / "account.json", server.token_uri)
    load: Any = Local.from_service_account_file
    credentials = load(str(tmp_path / "account.json"))
    options = {"api_endpoint": server.url}
    return storage.Client("project", credentials=credentials, client_options=options)


@pytest_twisted.ensureDeferred
async def test_googles_client(server: GcsServer, client: Any) -> None:
    """Google's client uploads, describes, reads, lists, copies, changes and deletes objects."""

    def work() -> None:
        bucket = client.bucket("bucket")
        assert bucket.exists()
        blob = bucket.blob("layers/ä b")
        blob.upload_from_string(
            b"content", "text/x-nixery", checksum="crc32c", if_generation_match=0
        )
        assert blob.download_as_bytes(checksum="crc32c") == b"content"
        assert blob.download_as_bytes(start=2, end=3) == b"nt"
        blob.metadata = {"key": "value"}
        blob.patch()
        blob.reload()
        assert (blob.size, blob.content_type, blob.metageneration) == (7, "text/x-nixery", 2)
        copy = bucket.blob("copy")
        server.api.rewrite_calls = 2
        token, written, size = copy.rewrite(blob)
        assert (written, size) == (3, 7)
        assert copy.rewrite(blob, token=token) == (None, 7, 7)
        bucket.copy_blob(blob, bucket, "other")
        assert [found.name for found in client.list_blobs("bucket", page_size=2)] == [
            *("copy", "layers/ä b", "other"),
        ]
        assert [found.name for found in client.list_blobs("bucket", prefix="lay")] == [blob.name]
        blob.delete()
        assert not blob.exists()

    await deferToThread(work)
    assert server.accounts.refreshes == 1
    assert server.objects["copy"].fields["metadata"] == {"key": "value"}


@pytest_twisted.ensureDeferred
async def test_resumable(server: GcsServer, client: Any) -> None:
    """Google's client uploads in chunks."""
    content = bytes(range(256)) * 4096 + b"rest"

    def work() -> None:
        blob = client.bucket("bucket").blob("large", chunk_size=256 * 1024)
        with blob.open("wb", chunk_size=256 * 1024, checksum="crc32c") as file:
            file.write(content)

    await deferToThread(work)
    assert server.content("large") == content
    assert server.count("upload.chunk") == 5


@pytest_twisted.ensureDeferred
async def test_signed(server: GcsServer, client: Any) -> None:
    """URLs that Google's client signs are good."""

    def work() -> None:
        blob = client.bucket("bucket").blob("layers/ä b+c~")

        def sign(method: str = "GET") -> str:
            url: str = blob.generate_signed_url(
                version="v4",
                expiration=timedelta(minutes=5),
                method=method,
                api_access_endpoint=server.url,
            )
            return url

        assert requests.put(sign(method="PUT"), b"content", timeout=HUNG).status_code == 200
        answer = requests.get(sign(), timeout=HUNG)
        assert answer.content == b"content"
        answer = requests.get(sign(), headers={"Range": "bytes=-2"}, timeout=HUNG)
        assert (answer.status_code, answer.content) == (206, b"nt")
        assert requests.head(sign(method="HEAD"), timeout=HUNG).headers["content-length"] == "7"
        assert requests.get(sign(method="PUT"), timeout=HUNG).status_code == 403
        assert requests.get(sign() + "&x=1", timeout=HUNG).status_code == 403
        assert requests.get(f"{server.url}/bucket/layers", timeout=HUNG).status_code == 403
        url = sign()
        server.clock.offset = 301
        answer = requests.get(url, timeout=HUNG)
        assert answer.status_code == 400
        assert "ExpiredToken" in answer.text

    await deferToThread(work)
