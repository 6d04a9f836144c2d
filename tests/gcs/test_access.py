# mypy: disable-error-code="import-untyped,untyped-decorator"
"""Who may do what: tokens, permissions, other people's buckets."""

import base64
import json
from pathlib import Path
from typing import Any

import attrs
import google.auth.transport.requests
import pytest
import pytest_twisted
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from google.auth.compute_engine import _metadata
from google.oauth2 import service_account
from twisted.internet.threads import deferToThread

from tests.gcs.asking import OBJECTS, UPLOAD, Asker
from tests.gcs.server import EMAIL, GcsServer

SCOPES = ["https://www.googleapis.com/auth/devstorage.read_write"]


@pytest_twisted.ensureDeferred
async def test_tokens(server: GcsServer, asker: Asker) -> None:
    """The JSON API is for who has a token that is still good; a session's address is one."""
    path = await asker.start("name")
    for authorization in ("", "Bearer x", f"Basic {server.token}"):
        got = await asker.ask("GET", OBJECTS, Authorization=authorization)
        assert got.status == 401
        assert "www-authenticate" in got.headers
    assert (await asker.ask("GET", OBJECTS)).status == 200
    server.clock.offset = 3601
    assert (await asker.ask("GET", OBJECTS)).status == 401
    assert (await asker.chunk(path, "0-0/1", b"!")).status == 401
    got = await asker.ask("PUT", path, b"!", Authorization="")
    assert got.status == 200
    server.needs_token = False
    assert (await asker.ask("GET", OBJECTS)).status == 200


@pytest_twisted.ensureDeferred
async def test_grants(server: GcsServer, tmp_path: Path) -> None:
    """An account gets a token for what its key signed, and for nothing else."""
    server.account.write(tmp_path / "good.json", server.token_uri)
    other = attrs.evolve(server.accounts.add("other@example.com"), email=EMAIL)
    other.write(tmp_path / "bad.json", server.token_uri)

    def refresh(name: str) -> str:
        load: Any = service_account.Credentials.from_service_account_file
        credentials = load(str(tmp_path / name), scopes=SCOPES)
        credentials.refresh(google.auth.transport.requests.Request())
        token: str = credentials.token
        return token

    assert await deferToThread(refresh, "good.json") in server.accounts.tokens
    with pytest.raises(google.auth.exceptions.RefreshError, match="invalid_grant"):
        await deferToThread(refresh, "bad.json")
    assert (server.accounts.refreshes, server.count("token")) == (1, 2)


@pytest_twisted.ensureDeferred
async def test_machine(server: GcsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine at Google's gets its account's token from its metadata server."""
    request: Any = google.auth.transport.requests.Request()
    monkeypatch.setattr(_metadata, "_GCE_METADATA_HOST", server.url.removeprefix("http://"))

    def ask() -> tuple[str, str]:
        token, _ = _metadata.get_service_account_token(request)
        info = _metadata.get_service_account_info(request)
        return token, info["email"]

    token, email = await deferToThread(ask)
    assert token in server.accounts.tokens
    assert email == EMAIL


@pytest_twisted.ensureDeferred
async def test_sign_blob(server: GcsServer, asker: Asker) -> None:
    """The server signs for an account, if that is permitted."""
    path = f"/v1/projects/-/serviceAccounts/{EMAIL}:signBlob"
    body = json.dumps({"payload": base64.b64encode(b"message").decode()})
    got = await asker.ask("POST", path, body)
    signature = base64.b64decode(json.loads(got.body)["signedBlob"])
    server.accounts.keys()[EMAIL].verify(signature, b"message", PKCS1v15(), SHA256())
    assert (await asker.ask("POST", path, body, Authorization="")).status == 401
    server.accounts.may_sign = False
    assert (await asker.ask("POST", path, body)).status == 403


@pytest.mark.parametrize(
    ("permission", "method", "path"),
    [
        ("create", "POST", f"{UPLOAD}?uploadType=media&name=new"),
        ("create", "POST", f"{UPLOAD}?uploadType=resumable&name=new"),
        ("create", "POST", f"{OBJECTS}/old/rewriteTo/b/bucket/o/new"),
        ("delete", "POST", f"{UPLOAD}?uploadType=media&name=old"),
        ("delete", "DELETE", f"{OBJECTS}/old"),
        ("get", "GET", f"{OBJECTS}/old"),
        ("get", "GET", f"{OBJECTS}/old?alt=media"),
        ("get", "POST", f"{OBJECTS}/old/copyTo/b/bucket/o/new"),
        ("list", "GET", OBJECTS),
        ("list", "GET", f"{OBJECTS}/none"),
        ("update", "PATCH", f"{OBJECTS}/old"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_permissions(
    server: GcsServer, asker: Asker, permission: str, method: str, path: str
) -> None:
    """What isn't permitted isn't done, and all else is."""
    server.put("old", b"old")
    held = f"storage.objects.{permission}"
    server.bucket.permissions.discard(held)
    assert (await asker.ask(method, path)).status == 403
    assert [found.content.data for found in server.objects.values()] == [b"old"]
    asked = f"/storage/v1/b/bucket/iam/testPermissions?permissions={held}"
    assert "permissions" not in json.loads((await asker.ask("GET", asked)).body)
    server.bucket.permissions.add(held)
    assert (await asker.ask(method, path)).status in (200, 204, 404)


@pytest_twisted.ensureDeferred
async def test_other_buckets(server: GcsServer, asker: Asker) -> None:
    """A bucket that isn't there is not found, another's one is forbidden."""
    server.foreign.add("theirs")
    for path in ("/storage/v1/b/{}/o", "/storage/v1/b/{}/o/name", "/storage/v1/b/{}", "/{}/name"):
        assert (await asker.ask("GET", path.format("none"))).status == 404
        assert (await asker.ask("GET", path.format("theirs"))).status == 403
    server.put("name", b"")
    got = await asker.ask("POST", f"{OBJECTS}/name/rewriteTo/b/theirs/o/name")
    assert got.status == 403


@pytest_twisted.ensureDeferred
async def test_public(server: GcsServer, asker: Asker) -> None:
    """What is public may be read without a signature, but not with a bad one."""
    server.put("name", b"content")
    assert (await asker.ask("GET", "/bucket/name")).status == 403
    server.bucket.public = True
    assert (await asker.ask("GET", "/bucket/name")).body == b"content"
    assert (await asker.ask("GET", "/bucket/name?X-Goog-Signature=00")).status == 400
    assert (await asker.ask("PUT", "/bucket/name", b"mine")).status == 403
