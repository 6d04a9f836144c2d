# mypy: disable-error-code="import-untyped,untyped-decorator"
"""What was verified, kept over a restart."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.logger import capturedLogs

from nixery.model.digest import Digest
from nixery.reactor import in_thread
from nixery.storage.filesystem import verified_marks
from nixery.storage.filesystem.filesystem_storage import FilesystemStorage
from tests.storage.backend import CONTENT, assert_unknown
from tests.waiting import until

reactor: Any = _reactor

DIGEST = Digest.of(CONTENT)


class Reading(FilesystemStorage):
    """Counts the blobs that it reads to verify them."""

    read = 0

    def _verify(self, digest: Digest) -> Any:
        self.read += 1
        return super()._verify(digest)


class Place:
    """A storage and a file of marks, for one process after another."""

    def __init__(self, folder: Path) -> None:
        self.blob = folder / "storage" / "layers" / DIGEST.hex
        self.marks = folder / "verified.json"
        self._folder = folder / "storage"
        self._opened: list[Reading] = []

    async def open(self) -> Reading:
        storage = Reading(reactor, str(self._folder), marks=str(self.marks))
        self._opened.append(storage)
        await storage.start()
        return storage

    async def again(self) -> Reading:
        """Another process, which wants the blob that an earlier one has written."""
        storage = await self.open()
        await storage.locate(DIGEST)
        return storage

    def close(self) -> None:
        """End what a test has left as if it were killed: nobody else would."""
        for storage in self._opened:
            storage.stop()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    place.close()


@pytest_twisted.ensureDeferred
async def test_verified_once(place: Place) -> None:
    """What one process has verified, those after it do not read again, as long as they are
    stopped: whether they had a use for it or not."""
    storage = await place.open()
    await storage.write_blob(CONTENT)
    storage.stop()
    for _ in range(2):
        unused = await place.open()
        unused.stop()
        storage = await place.again()
        assert storage.read == 0
        storage.stop()


def _alter(blob: Path) -> None:
    """In place, with its time put back."""
    before = blob.stat()
    blob.write_bytes(CONTENT[::-1])
    os.utime(blob, ns=(before.st_atime_ns, before.st_mtime_ns))


def _restore(blob: Path) -> None:
    """From a backup that was not good, as ``cp --preserve`` does."""
    _alter(blob)
    shutil.copy2(blob, blob.parent.parent / "copy")
    (blob.parent.parent / "copy").replace(blob)


@pytest.mark.parametrize("harm", [_alter, _restore, lambda blob: os.truncate(blob, 5), os.unlink])
@pytest_twisted.ensureDeferred
async def test_harm_between_two_processes(place: Place, harm: Callable[[Path], None]) -> None:
    """A mark says nothing of a file that was altered, cut, lost or replaced since."""
    storage = await place.open()
    await storage.write_blob(CONTENT)
    storage.stop()
    harm(place.blob)
    await assert_unknown(await place.open(), DIGEST)


@pytest_twisted.ensureDeferred
async def test_after_a_power_cut(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a daemon that was killed, marks count until the machine is started again; of one that was
    stopped, after that as well, but not of the process that has believed them, if it is killed."""
    monkeypatch.setattr(verified_marks, "INTERVAL", 0.01)
    await (await place.open()).write_blob(CONTENT)  # and it is killed
    await until(lambda: place.marks.exists() and DIGEST.hex in place.marks.read_text())
    assert (await place.again()).read == 0
    monkeypatch.setattr(verified_marks, "_boot", lambda: "the second start")
    storage = await place.again()
    assert storage.read == 1
    storage.stop()
    monkeypatch.setattr(verified_marks, "_boot", lambda: "the third start")
    assert (await place.again()).read == 0  # and it is killed
    monkeypatch.setattr(verified_marks, "_boot", lambda: "the fourth start")
    assert (await place.again()).read == 1


@pytest_twisted.ensureDeferred
async def test_where_the_start_is_not_known(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody knows when the machine was started, only a stopped daemon's marks count."""
    monkeypatch.setattr(verified_marks, "_BOOT", "/nonexistent")
    storage = await place.open()
    await storage.write_blob(CONTENT)
    storage.stop()
    assert (await place.again()).read == 0  # and it is killed
    assert (await place.again()).read == 1


@pytest_twisted.ensureDeferred
async def test_used_while_they_are_written(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mark that is of use just when all are written is among them."""
    monkeypatch.setattr(verified_marks, "INTERVAL", 0.01)
    storage = await place.open()
    await storage.write_blob(CONTENT)
    storage.stop()
    storage = await place.open()

    def use_first(*arguments: Any) -> Any:
        assert storage._verifier.known(DIGEST) is not None
        return in_thread(*arguments)

    monkeypatch.setattr(verified_marks, "in_thread", use_first)
    other = await storage.write_blob(b"other")
    await until(lambda: other.hex in place.marks.read_text())
    assert DIGEST.hex in place.marks.read_text()


NONSENSE = [
    "",
    "[]",
    "{",
    '{"since": "stopped"}',
    '{"since": "stopped", "verified": 5}',
    '{"since": "stopped", "verified": {"%s": [1, 2]}}',
    '{"since": "stopped", "verified": {"%s": [1, 2, 3, 4, 5]}}',
    '{"since": "stopped", "verified": {"%s": "abcde"}}',
]


@pytest.mark.parametrize("text", NONSENSE)
@pytest_twisted.ensureDeferred
async def test_nonsense(place: Place, text: str) -> None:
    """A file that holds anything else is one without marks."""
    await (await place.open()).write_blob(CONTENT)
    place.marks.write_text(text.replace("%s", DIGEST.hex))
    assert (await place.again()).read == 1


@pytest_twisted.ensureDeferred
async def test_nowhere_to_keep_them(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where marks can't be written, that is logged once, and blobs are served."""
    monkeypatch.setattr(verified_marks, "INTERVAL", 0.01)
    place.marks.mkdir()
    with capturedLogs() as logs:
        storage = await place.open()
        await storage.write_blob(CONTENT)
        await until(lambda: any("restart" in each["log_format"] for each in logs))
        await storage.write_blob(b"other")
        await storage.locate(DIGEST)
        storage.stop()
    assert sum("restart" in each["log_format"] for each in logs) == 1
    assert list(place.marks.parent.glob("*.new")) == []


@pytest_twisted.ensureDeferred
async def test_bounded(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of more marks than there is room for, those stay whose blobs were of use last."""
    monkeypatch.setattr(verified_marks, "_MOST", 2)
    for content in (CONTENT, b"second", b"third"):
        storage = await place.open()
        await storage.write_blob(content)
        storage.stop()
    kept = json.loads(place.marks.read_text())["verified"]
    assert list(kept) == [Digest.of(b"second").hex, Digest.of(b"third").hex]
