# mypy: disable-error-code="import-untyped,untyped-decorator"
"""Blobs that are known to be there without a look."""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from nixery.inotify import Watches
from nixery.model.digest import Digest
from nixery.model.manifest import CONFIG_TYPE, Descriptor
from nixery.storage.filesystem import standing as module
from nixery.storage.filesystem.files import FileIdentity, identify
from nixery.storage.filesystem.filesystem_storage import FilesystemStorage
from nixery.storage.filesystem.standing import AGE, StandingBlobs
from tests.storage.backend import CONTENT, descriptor

reactor: Any = _reactor

NAMES = [digit * 64 for digit in "abc"]


class Place:
    """A folder of blobs, and what is known of it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "layers"
        self.path.mkdir()
        for name in NAMES:
            (self.path / name).write_text("blob")
        self.clock = Clock()
        self.blobs = StandingBlobs(str(self.path), self.clock.seconds, most=10)
        self.blobs.watch()
        self.look()

    def identities(self) -> dict[str, FileIdentity]:
        found = ((name, identify(str(self.path / name))) for name in NAMES)
        return {name: file for name, file in found if file is not None}

    def look(self) -> None:
        """Look at all blobs, as the storage does."""
        look = self.blobs.look(NAMES)
        self.blobs.ended(look, self.identities())

    def known(self) -> set[str]:
        return set(self.blobs.known(NAMES))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def _replace(path: Path) -> None:
    shutil.copy(path, path.parent.parent / "copy")
    (path.parent.parent / "copy").replace(path)


HARM: dict[str, Callable[[Path], object]] = {
    "lost": lambda path: path.unlink(),
    "moved away": lambda path: path.rename(path.parent.parent / "away"),
    "cut": lambda path: os.truncate(path, 1),
    "altered": lambda path: path.write_text("bolb"),
    "touched": lambda path: path.touch(),
    "replaced": _replace,
}


def test_nothing_happens(place: Place) -> None:
    """What was found is known, with the number of changes staying as it is; new blobs, and what
    comes and goes without a look at it, change nothing."""
    changes = place.blobs.changes()
    assert changes is not None
    assert place.blobs.known(NAMES) == place.identities()
    (place.path.parent / "new").write_text("new")
    (place.path.parent / "new").rename(place.path / ("d" * 64))
    (place.path / ("d" * 64)).unlink()
    assert place.known() == set(NAMES)
    assert place.blobs.changes() == changes


@pytest.mark.parametrize("harm", HARM)
def test_harm(place: Place, harm: str) -> None:
    """Whatever happens to a blob is known the moment after, and the others are still known."""
    changes = place.blobs.changes()
    HARM[harm](place.path / NAMES[0])
    assert place.blobs.changes() not in (changes, None)
    assert place.known() == set(NAMES[1:])


def test_harm_during_a_look(place: Place) -> None:
    """What a look has found is not believed of a blob that was lost meanwhile, even if another
    look has begun since."""
    first = place.blobs.look(NAMES)
    found = place.identities()
    (place.path / NAMES[0]).unlink()
    second = place.blobs.look(NAMES[:1])
    place.blobs.ended(first, found)
    assert place.known() == set(NAMES[1:])
    place.blobs.ended(second, {})
    assert place.known() == set(NAMES[1:])


@pytest.mark.parametrize("whole", [False, True])
def test_folders_that_go(place: Place, whole: bool) -> None:
    """Of a folder that is moved away, nothing is known, and a new one in its place is watched from
    the next look on."""
    changes = place.blobs.changes()
    moved = place.path.parent if whole else place.path
    moved.rename(f"{moved}-before")
    assert place.known() == set()
    assert place.blobs.changes() is None
    shutil.copytree(f"{moved}-before", moved)
    place.blobs.watch()
    place.look()
    assert place.known() == set(NAMES)
    assert place.blobs.changes() not in (changes, None)
    (place.path / NAMES[0]).unlink()
    assert place.known() == set(NAMES[1:])


def test_a_folder_behind_a_link(tmp_path: Path) -> None:
    """A storage folder that is led to by another link is noticed at the next look."""
    (tmp_path / "one").mkdir()
    place = Place(tmp_path / "one")
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    (tmp_path / "link").symlink_to("one")
    blobs = StandingBlobs(str(tmp_path / "link" / "layers"), place.clock.seconds)
    blobs.watch()
    before = blobs.changes()
    (tmp_path / "link").unlink()
    (tmp_path / "link").symlink_to("two")
    blobs.watch()
    assert blobs.changes() not in (before, None)
    blobs.ended(blobs.look(NAMES), place.identities())
    (tmp_path / "two" / "layers" / NAMES[0]).unlink()
    assert set(blobs.known(NAMES)) == set(NAMES[1:])


def test_a_second_name(place: Place) -> None:
    """A blob that may be written by another name is looked at each time, and while there is one,
    nobody says that nothing has changed."""
    os.link(place.path / NAMES[0], place.path.parent / "other")
    place.look()
    assert place.known() == set(NAMES[1:])
    assert place.blobs.changes() is None
    (place.path.parent / "other").unlink()
    place.clock.advance(AGE)
    place.look()
    assert place.known() == set(NAMES)
    assert place.blobs.changes() is not None


def test_looks_grow_old(place: Place) -> None:
    """What the kernel does not tell is noticed after a while."""
    place.clock.advance(AGE)
    assert place.known() == set()


def test_bounded(place: Place) -> None:
    """Of more blobs than there is room for, none is remembered wrongly."""
    changes = place.blobs.changes()
    place.blobs.ended(place.blobs.look([f"{number:064}" for number in range(9)]), {})
    assert place.known() == set()
    assert place.blobs.changes() != changes


class NoRoom(Watches):
    """For a user who has as many watches as may be, but for one."""

    added = 0

    def add(self, path: str, kinds: int) -> int:
        self.added += 1
        if self.added > 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().add(path, kinds)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (("is_told", lambda path: False), "other machines"),
        (("Watches", NoRoom), "fs.inotify.max_user_watches"),
    ],
)
def test_where_the_kernel_does_not_tell(
    place: Place, monkeypatch: pytest.MonkeyPatch, fault: tuple[str, object], reason: str
) -> None:
    """On a network's file system, or without room for a watch, nothing is known without a look,
    which is logged once; later it is tried again."""
    with monkeypatch.context() as patch, capturedLogs() as logs:
        patch.setattr(module, *fault)
        blobs = StandingBlobs(str(place.path), place.clock.seconds)
        for _ in range(2):
            assert blobs.unwatched
            blobs.watch()
            blobs.ended(blobs.look(NAMES), place.identities())
            assert blobs.changes() is None
            assert not blobs.known(NAMES)
            assert not blobs.unwatched
            place.clock.advance(60)
    (said,) = logs
    assert reason in said["reason"]
    blobs.watch()
    blobs.ended(blobs.look(NAMES), place.identities())
    assert set(blobs.known(NAMES)) == set(NAMES)


class Counting(FilesystemStorage):
    """Counts what is done in threads."""

    in_threads = 0

    def _in_thread(self, work: Any, *args: Any, **kwargs: Any) -> Any:
        self.in_threads += 1
        return super()._in_thread(work, *args, **kwargs)


@pytest_twisted.ensureDeferred
async def test_no_threads(tmp_path: Path) -> None:
    """What was there a moment ago takes no thread, until it is harmed: by this process, by another
    one that shares the folder, or by anybody else."""
    storage, other = Counting(reactor, str(tmp_path)), FilesystemStorage(reactor, str(tmp_path))
    await storage.start()
    blobs = [descriptor(content) for content in (CONTENT, b"other")]
    for content in (CONTENT, b"other"):
        await storage.write_blob(content)
    assert await storage.missing_blobs(blobs) == []
    place = await storage.locate(blobs[0].digest)
    before, changes = storage.in_threads, storage.changes()
    assert changes is not None
    assert await storage.missing_blobs(blobs) == []
    assert await storage.locate(blobs[0].digest) == place
    assert storage.in_threads == before
    assert await storage.missing_blobs([Descriptor(CONFIG_TYPE, blobs[0].digest, 1)])
    digest = await other.write_blob(b"another one's new blob")
    assert storage.changes() == changes
    (tmp_path / "layers" / digest.hex).unlink()
    assert storage.changes() == changes
    (tmp_path / "layers" / blobs[1].digest.hex).write_bytes(b"rehto")
    assert storage.changes() != changes
    with pytest.raises(Exception, match=blobs[1].digest.hex):
        await other.locate(blobs[1].digest)  # drops it
    assert await storage.missing_blobs(blobs) == [Digest.of(b"other")]
