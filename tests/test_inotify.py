"""What the kernel tells of changes to files."""

import errno
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from nixery import inotify
from nixery.inotify import (
    ATTRIBUTES,
    CREATED,
    DELETED,
    MODIFIED,
    MOVED_AWAY,
    MOVED_HERE,
    Blind,
    Watches,
    is_told,
    reason_of,
)

ALL = ATTRIBUTES | CREATED | DELETED | MODIFIED | MOVED_AWAY | MOVED_HERE

EDITS: dict[str, Callable[[Path], object]] = {
    "written": lambda path: path.write_text("other"),
    "emptied": lambda path: os.truncate(path, 0),
    "removed": lambda path: path.unlink(),
    "moved away": lambda path: path.rename(path.parent.parent / "away"),
    "replaced": lambda path: (path.parent.parent / "other").replace(path),
    "time put back": lambda path: os.utime(path, (1, 1)),
    "made executable": lambda path: path.chmod(0o755),
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "other").write_text("other")
    (folder / "file").write_text("text")
    return folder / "file"


@pytest.mark.parametrize("edit", EDITS)
def test_edits_are_told_at_once(file: Path, edit: str) -> None:
    """As soon as a change is made, its event is there; to read a file is none."""
    watches = Watches()
    watch = watches.add(str(file.parent), ALL)
    file.read_text()
    os.stat(file)
    assert watches.events() == []
    EDITS[edit](file)
    assert {(event.wd, event.name) for event in watches.events()} == {(watch, "file")}
    assert watches.events() == []


@pytest.mark.parametrize("end", ["removed", "moved"])
def test_folders_that_go(tmp_path: Path, end: str) -> None:
    """Of a folder that goes, or goes to another place, no more can be told."""
    (tmp_path / "folder").mkdir()
    watches = Watches()
    watches.add(str(tmp_path / "folder"), ALL)
    if end == "removed":
        (tmp_path / "folder").rmdir()
    else:
        (tmp_path / "folder").rename(tmp_path / "other")
    with pytest.raises(Blind):
        watches.events()


def test_more_than_is_worth_reading(tmp_path: Path) -> None:
    """Very many events are not looked at, and those that come after them are."""
    watches = Watches()
    watches.add(str(tmp_path), CREATED)
    for number in range(1000):
        (tmp_path / f"{number:064}").touch()
    with pytest.raises(Blind):
        watches.events()
    assert watches.events() == []
    (tmp_path / "later").touch()
    assert [event.name for event in watches.events()] == ["later"]


def test_more_than_the_kernel_keeps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Events that the kernel has no room for are told to be lost, even if all others are read."""
    most = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    monkeypatch.setattr(inotify, "_PIECE", 64 * (most + 10))
    (tmp_path / "a").touch()
    (tmp_path / "b").touch()
    watches = Watches()
    watches.add(str(tmp_path), ATTRIBUTES)
    for number in range(most // 2 + 2):
        os.utime(tmp_path / "a", (number, number))
        os.utime(tmp_path / "b", (number, number))
    with pytest.raises(Blind):
        watches.events()


def test_nothing_to_watch(tmp_path: Path) -> None:
    """What is not there can't be watched."""
    with pytest.raises(FileNotFoundError):
        Watches().add(str(tmp_path / "none"), ALL)


def _instances() -> set[str]:
    """The descriptors of inotify; threads may open and close others meanwhile."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):
            if "inotify" in os.readlink(f"/proc/self/fd/{name}"):
                found.add(name)
    return found


def test_descriptors_are_closed(tmp_path: Path) -> None:
    """Nothing is left open of watches that nobody has any more, or that were closed."""
    before = _instances()
    watches = Watches()
    assert not _instances() <= before
    watches.add(str(tmp_path), ALL)
    watches.close()
    watches.close()
    Watches().add(str(tmp_path), ALL)
    del watches
    assert _instances() <= before


def test_reasons() -> None:
    """Of the kernel's limits it is said which one was reached: the system's words are those for a
    full disk."""
    full = OSError(errno.ENOSPC, "No space left on device")
    assert "fs.inotify.max_user_watches" in reason_of(full)
    many = OSError(errno.EMFILE, "Too many open files")
    assert "fs.inotify.max_user_instances" in reason_of(many)
    assert reason_of(OSError(errno.EACCES, "Permission denied")) == "Permission denied"


def test_where_the_kernel_knows(tmp_path: Path) -> None:
    """Only of file systems of its own does the kernel know who writes to them."""
    assert is_told("/dev/shm")
    assert not is_told("/proc")
    assert not is_told(str(tmp_path / "none"))
