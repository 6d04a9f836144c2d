"""How much room there is."""

import os
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.task import Clock

from nixery.watching.checks import disk_check
from nixery.watching.disks import INTERVAL, Disks
from tests.waiting import until

reactor: Any = _reactor


class Time(Clock):
    """A reactor whose time stands still."""

    def __getattr__(self, name: str) -> Any:
        return getattr(reactor, name)


class Vanishing(os.PathLike[str]):
    """A folder that is there at every other look."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.looks = 0

    def __fspath__(self) -> str:
        self.looks += 1
        return str(self._path if self.looks % 2 else self._path / "gone")


@pytest_twisted.ensureDeferred
async def test_a_disk_that_comes_and_goes(tmp_path: Path) -> None:
    """A folder that can't be looked at has no room, others have, and it is looked at again."""
    clock: Any = Time()
    vanishing = Vanishing(tmp_path)
    folders: Any = {"there": str(tmp_path), "vanishing": vanishing}
    disks = Disks(clock, folders)
    disks.startService()
    seen: list[set[str]] = []
    for _ in range(4):
        await until(lambda: bool(clock.getDelayedCalls()))  # the next look is planned
        seen.append(set(disks.free))
        clock.advance(INTERVAL)
    disks.stopService()
    assert seen == [{"there", "vanishing"}, {"there"}] * 2
    assert disks.size["there"] > disks.free["there"] > 0


@pytest_twisted.ensureDeferred
async def test_a_full_disk_is_named(tmp_path: Path) -> None:
    """A disk without room is told by what is kept on it: where that lies is nobody's business."""
    with pytest.raises(OSError, match="storage") as caught:
        await disk_check(reactor, {"state": str(tmp_path), "storage": "/proc"})()
    assert "/proc" not in str(caught.value)
    assert await disk_check(reactor, {"nix": str(tmp_path / "none")})() == ""
