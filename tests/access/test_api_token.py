"""The token of operators, and the files by which programs find the daemon."""

import os
import stat
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred

from nixery.access.api_token import OperatorAccess, read_secret
from nixery.access.watched import FileInvalid
from nixery.model.request_errors import Unauthorized

reactor: Any = _reactor

TOKEN = "0123456789abcdef"


@pytest_twisted.ensureDeferred
async def test_made(tmp_path: Path) -> None:
    """Without a file of its own, the daemon makes a token that only its user can read, once: all
    that share the folder take the same one, also if they start at the same time."""
    many = [OperatorAccess(reactor, str(tmp_path), None) for _ in range(5)]
    for start in [Deferred.fromCoroutine(each.start()) for each in many]:
        await start
    (path,) = tmp_path.iterdir()
    assert path.name == "api-token"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    token = path.read_text().strip()
    assert len(token) > 40
    for each in many:
        each.check(f"Bearer {token}")
        each.check(f"bearer   {token} ")
    await many[0].start()
    assert path.read_text().strip() == token


@pytest.mark.parametrize(
    "header",
    ["", TOKEN, "Bearer", "Bearer ", f"Basic {TOKEN}", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}"],
)
def test_others(header: str) -> None:
    """Whoever shows no token, or another one, is no operator; the token is not told."""
    access = OperatorAccess(reactor, "/nonexistent", lambda: TOKEN)
    access.check(f"Bearer {TOKEN}")
    with pytest.raises(Unauthorized) as refused:
        access.check(header)
    assert TOKEN not in str(refused.value)


@pytest_twisted.ensureDeferred
async def test_no_token(tmp_path: Path) -> None:
    """Where no token can be made, nobody is an operator, whatever is shown, and the daemon runs."""
    (tmp_path / "api-token").write_text("short\n")
    for folder in (tmp_path, tmp_path / "missing"):
        access = OperatorAccess(reactor, str(folder), None)
        await access.start()
        await access.stop()
        for shown in ("Bearer short", "Bearer None", "Bearer x"):
            with pytest.raises(Unauthorized):
                access.check(shown)


@pytest_twisted.ensureDeferred
async def test_address(tmp_path: Path) -> None:
    """The daemon's address is there while it listens; that of one which has taken its place
    stays, even if it is the same."""
    path = tmp_path / "api-address"
    first, second = (OperatorAccess(reactor, str(tmp_path), lambda: TOKEN) for _ in range(2))
    await first.listens("http://localhost:8080")
    assert path.read_text() == "http://localhost:8080\n"
    await second.listens("http://localhost:8080")
    await first.stop()
    assert path.exists()
    await second.stop()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("content", [b"", b"short\n", b"two lines of\nsecrets...", b"\xff" * 20])
def test_files_without_a_secret(tmp_path: Path, content: bytes) -> None:
    """A file that holds no secret is refused, and nothing of it is told."""
    path = tmp_path / "secret"
    path.write_bytes(content)
    with pytest.raises(FileInvalid) as refused:
        read_secret(str(path))
    assert "short" not in str(refused.value)
    path.write_text(f" {TOKEN}\n")
    assert read_secret(str(path)) == TOKEN
