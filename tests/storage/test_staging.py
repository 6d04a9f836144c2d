# mypy: disable-error-code="import-untyped,untyped-decorator"
"""How the storage in a folder starts: what it finds there, and what others have left or hold."""

import fcntl
import gc
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs, formatEvent

from nixery.model.digest import Digest
from nixery.model.limits import DiskLimits
from nixery.model.service_errors import StorageUnavailable
from nixery.storage.filesystem.filesystem_storage import FilesystemStorage
from nixery.storage.filesystem.staging import Staging
from tests.storage.backend import CONTENT, KEY, LIMIT, assert_unknown, store
from tests.storage.places import mounted, unprivileged

reactor: Any = _reactor

OTHER_DAEMON = """
import sys
from twisted.internet import reactor
from twisted.internet.defer import Deferred, ensureDeferred
from nixery.storage.filesystem.filesystem_storage import FilesystemStorage

async def main():
    storage = FilesystemStorage(reactor, sys.argv[1])
    await storage.start()
    await storage.lease("0a")
    upload = await storage.receive()
    with open(upload.sink, "wb") as file:
        file.write(b"half of a bl")
    print(upload.sink, flush=True)

def failed(failure):
    print(failure, flush=True)

ensureDeferred(main()).addErrback(failed)
reactor.run()
"""


class OtherDaemon:
    """Another process on the same folder, which has a lease and is in the midst of an upload."""

    def __init__(self, folder: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", OTHER_DAEMON, str(folder)],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            text=True,
        )
        assert self._process.stdout is not None
        self.sink = Path(self._process.stdout.readline().strip())

    def kill(self) -> None:
        """SIGKILL: it has no time for anything."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """SIGTERM."""
        self._process.terminate()
        self._process.wait()

    def close(self) -> None:
        """Forget all about it."""
        with self._process:
            self._process.kill()


@pytest.fixture
def other(tmp_path: Path) -> Iterator[OtherDaemon]:
    daemon = OtherDaemon(tmp_path)
    yield daemon
    daemon.close()


async def _start(folder: Path) -> FilesystemStorage:
    storage = FilesystemStorage(reactor, str(folder))
    await storage.start()
    return storage


@pytest_twisted.ensureDeferred
async def test_leftovers_of_the_dead(other: OtherDaemon, tmp_path: Path) -> None:
    """What a killed process had not committed is seen by nobody, and gone after the next start,
    and so are its leases."""
    other.kill()
    assert list(tmp_path.glob("leases/*"))
    assert other.sink.read_bytes() == b"half of a bl"
    await assert_unknown(FilesystemStorage(reactor, str(tmp_path)), Digest.of(b"half of a bl"))
    storage = await _start(tmp_path)
    assert not other.sink.parent.exists()
    assert not list(tmp_path.glob("staging/*/*"))
    assert not list(tmp_path.glob("layers/*"))
    assert not list(tmp_path.glob("leases/*"))
    await store(storage, CONTENT)


@pytest_twisted.ensureDeferred
async def test_uploads_of_the_living(other: OtherDaemon, tmp_path: Path) -> None:
    """What a living process is just receiving stays, however often others start, and so do its
    leases."""
    for _ in range(3):
        await _start(tmp_path)
    assert [path.name for path in tmp_path.glob("leases/*")] == ["0a"]
    assert other.sink.read_bytes() == b"half of a bl"


@pytest_twisted.ensureDeferred
async def test_stopped_in_peace(other: OtherDaemon, tmp_path: Path) -> None:
    """A process that had nothing staged when it ended leaves nothing."""
    other.sink.unlink()
    other.stop()
    assert not list(tmp_path.glob("staging/*"))


@pytest_twisted.ensureDeferred
async def test_stopped_while_room_is_made(tmp_path: Path) -> None:
    """A blob that is being dropped at the end leaves no folder behind."""
    storage = await _start(tmp_path)
    await storage.housekeeping._shrink()
    aside = Path(storage._staging.name())
    aside.touch()
    storage.housekeeping._shrinking.join(None, Deferred)
    storage.stop()
    aside.unlink()
    del storage
    gc.collect()
    assert not list(tmp_path.glob("staging/*"))


def test_names(tmp_path: Path) -> None:
    """No name is given out twice, by whichever process or thread, and nothing is there yet."""
    stagings = [Staging(str(tmp_path / "staging")) for _ in range(2)]
    names = [staging.name() for staging in stagings for _ in range(100)]
    assert len(set(names)) == 200
    assert len({os.path.dirname(name) for name in names}) == 2
    assert not any(map(os.path.exists, names))


def test_held_while_in_use(tmp_path: Path) -> None:
    """A folder is held from the moment it can be seen by others until its owner is gone."""
    staging = Staging(str(tmp_path))
    name = Path(staging.name())
    name.touch()
    Staging(str(tmp_path)).clear()
    assert name.exists()
    del staging
    Staging(str(tmp_path)).clear()
    assert not name.parent.exists()


def test_being_cleared(tmp_path: Path) -> None:
    """A leftover that another process is just clearing away is left to that one; what is of
    another form is nobody's."""
    left = uuid.uuid4().hex
    (tmp_path / left / uuid.uuid4().hex).mkdir(parents=True)
    (tmp_path / "note").touch()
    # A process was killed while it made room.
    (tmp_path / f"aside-{uuid.uuid4().hex}").touch()
    link = uuid.uuid4().hex
    (tmp_path / link).symlink_to(tmp_path / left)
    held = os.open(tmp_path / left, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    Staging(str(tmp_path)).clear()
    assert set(os.listdir(tmp_path)) == {left, link, "note"}
    os.close(held)
    with capturedLogs() as captured:
        Staging(str(tmp_path)).clear()
    assert set(os.listdir(tmp_path)) == {link, "note"}
    told = [formatEvent(event) or "" for event in captured]
    assert [line for line in told if "removed from" in line and left in line]


def test_nothing_of_others_is_cleared(tmp_path: Path) -> None:
    """Folders and files of other forms stay, and what is in a folder that looks like ours."""
    looks_like_ours = tmp_path / "tmpabcdefgh"
    for path in (tmp_path / "website" / "index.html", looks_like_ours / "thesis.tex"):
        path.parent.mkdir()
        path.write_text("somebody's")
    (tmp_path / "aside-0123").touch()
    (looks_like_ours / uuid.uuid4().hex).touch()
    Staging(str(tmp_path)).clear()
    assert set(os.listdir(tmp_path)) == {"website", "tmpabcdefgh", "aside-0123"}
    assert (tmp_path / "website" / "index.html").read_text() == "somebody's"
    assert os.listdir(looks_like_ours) == ["thesis.tex"]


@pytest.mark.parametrize("path", ["file", "file/below", "layers-is-a-file"])
@pytest_twisted.ensureDeferred
async def test_no_folder(tmp_path: Path, path: str) -> None:
    """A storage where a file is in the way of a folder does not start, and says which."""
    (tmp_path / "file").touch()
    (tmp_path / "layers-is-a-file").mkdir()
    (tmp_path / "layers-is-a-file" / "layers").touch()
    with pytest.raises(StorageUnavailable, match=f"{path}.* is not a folder"):
        await _start(tmp_path / path)


@pytest_twisted.ensureDeferred
async def test_no_permission() -> None:
    """A storage that can't be written to does not start, and says where and why."""
    with unprivileged() as folder:
        folder.chmod(0o555)
        with pytest.raises(StorageUnavailable, match=f"Permission denied .*{folder}/storage"):
            await _start(folder / "storage")
        folder.chmod(0o755)
        await _start(folder / "storage")
        (folder / "storage" / "builds").chmod(0o555)
        with pytest.raises(StorageUnavailable, match="storage/builds can't be written to"):
            await _start(folder / "storage")


@pytest.mark.program
@pytest_twisted.ensureDeferred
async def test_read_only(tmp_path: Path) -> None:
    """A storage on a file system that is mounted read-only serves what it has, and says where it
    can't write; one that would have to be made there does not start."""
    with mounted(tmp_path / "disk", "size=1m"):
        storage = await _start(tmp_path / "disk" / "storage")
        digest = await storage.write_blob(CONTENT)
        await storage.write_record(KEY, b"record")
        remount = ["mount", "-o", "remount,ro", str(tmp_path / "disk")]
        storage.stop()
        del storage
        subprocess.run(remount, check=True)
        storage = await _start(tmp_path / "disk" / "storage")
        assert await storage.read_blob(digest, LIMIT) == CONTENT
        assert await storage.read_record(KEY) == b"record"
        for work in (storage.write_blob(b"new"), storage.receive(), storage.lease("0a")):
            with pytest.raises(StorageUnavailable, match="Read-only file system"):
                await work
        with pytest.raises(StorageUnavailable, match=r"Read-only file system .*other"):
            await _start(tmp_path / "disk" / "other")


@pytest_twisted.ensureDeferred
async def test_two_file_systems(tmp_path: Path) -> None:
    """A storage where nothing can be renamed into place does not start, and says why."""
    with (
        mounted(tmp_path / "layers", "size=1m"),
        pytest.raises(StorageUnavailable, match=r"layers and .*staging are on two file systems"),
    ):
        await _start(tmp_path)


@pytest_twisted.ensureDeferred
async def test_start_without_room(tmp_path: Path) -> None:
    """On a full disk, what is stored is served, and there is room as soon as there is some."""
    with mounted(tmp_path / "disk", "size=1m,nr_inodes=20"):
        storage = await _start(tmp_path / "disk")
        digest = await storage.write_blob(CONTENT)
        del storage
        for number in range(20):
            if os.statvfs(tmp_path / "disk").f_favail:
                (tmp_path / "disk" / str(number)).touch()
        storage = await _start(tmp_path / "disk")
        assert await storage.read_blob(digest, LIMIT) == CONTENT
        for number in range(3):
            (tmp_path / "disk" / str(number)).unlink()
        await storage.write_blob(b"more")


@pytest_twisted.ensureDeferred
async def test_room_is_made_on_a_full_disk(tmp_path: Path) -> None:
    """A storage that is started on a full disk, with a bound that is lower than what it holds,
    drops what is too much, and leaves nothing behind."""
    disk = tmp_path / "disk"
    with mounted(disk, "size=1m,nr_inodes=40"):
        storage = await _start(disk)
        for number in range(5):
            digest = await storage.write_blob(bytes([number]) * 1000)
            os.utime(disk / "used" / digest.hex, (5, 5))
        storage.stop()
        del storage
        for number in range(40):
            if os.statvfs(disk).f_favail:
                (disk / str(number)).touch()
        shrunk = FilesystemStorage(
            reactor, str(disk), DiskLimits(storage_max=3000, storage_grace=10, scrub_days=0)
        )
        await shrunk.start()
        await shrunk.housekeeping._shrink()
        assert len(os.listdir(disk / "layers")) == 2
        shrunk.stop()
        assert not list(disk.glob("staging/*"))
