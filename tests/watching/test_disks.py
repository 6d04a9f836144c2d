# mypy: disable-error-code="import-untyped,untyped-decorator"
"""How much room there is on disks."""

import errno
import shutil
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.task import deferLater

from nixery.watching.disks import Disks

reactor: Any = _reactor


@pytest_twisted.ensureDeferred
async def test_a_disk_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that can't be looked at has no room that anybody knows of; the others do, and it is
    looked at again."""
    monkeypatch.setattr("nixery.watching.disks.INTERVAL", 0.01)
    broken, original = str(tmp_path / "broken"), shutil.disk_usage

    def usage(path: str) -> Any:
        if path == broken:
            raise OSError(errno.EIO, "Input/output error")
        return original(path)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    (tmp_path / "broken").mkdir()
    folders = {"good": str(tmp_path), "broken": broken, "none": str(tmp_path / "none")}
    disks = Disks(reactor, folders)
    disks.start()
    for _ in range(100):
        if disks.free:
            break
        await deferLater(reactor, 0.01, lambda: None)
    assert set(disks.free) == {"good"}
    monkeypatch.undo()
    monkeypatch.setattr("nixery.watching.disks.INTERVAL", 0.01)
    for _ in range(100):
        if "broken" in disks.free:
            break
        await deferLater(reactor, 0.01, lambda: None)
    assert set(disks.free) == {"good", "broken"}
    disks.stop()
