# mypy: disable-error-code="import-untyped,untyped-decorator"
"""The storage in a folder: the contract, and what can befall files."""

import contextlib
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from nixery.interfaces import IStorage
from nixery.model.digest import Digest
from nixery.model.request_errors import BlobUnknown
from nixery.model.service_errors import StorageFull, StorageUnavailable
from nixery.storage.filesystem.filesystem_storage import FilesystemStorage
from tests.storage.backend import CONTENT, KEY, LIMIT, assert_unknown, descriptor, run, store, write
from tests.storage.contract import StorageContract
from tests.storage.places import FolderBackend, mounted, unprivileged

reactor: Any = _reactor

DIGEST = Digest.of(CONTENT)


class TestFilesystem(StorageContract):
    """On a small disk of its own, where one can be mounted."""

    @pytest.fixture
    def backend(self, tmp_path: Path) -> Iterator[FolderBackend]:
        with mounted(tmp_path, "size=12m") if os.geteuid() == 0 else contextlib.nullcontext():
            yield FolderBackend(tmp_path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "storage"


@pytest.fixture
def storage(folder: Path) -> FilesystemStorage:
    made = FilesystemStorage(reactor, str(folder))
    run(made.start())
    return made


def _staged(folder: Path) -> list[str]:
    return [path.name for path in (folder / "staging").glob("*/*")]


@pytest_twisted.ensureDeferred
async def test_layout(storage: FilesystemStorage, folder: Path) -> None:
    """Blobs and records lie where the documentation says, readable by all, and nothing else."""
    await storage.write_blob(CONTENT)
    await store(storage, CONTENT + CONTENT)
    await storage.write_record(KEY, b"record")
    found = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    names = (DIGEST.hex, Digest.of(CONTENT * 2).hex)
    places = {f"{folder}/{name}" for folder in ("layers", "used") for name in names}
    assert set(found) == {*places, KEY}
    assert {path.stat().st_mode & 0o777 for path in found.values()} == {0o644}


@pytest_twisted.ensureDeferred
async def test_umask(storage: FilesystemStorage, folder: Path) -> None:
    """Blobs and records can be read by others, whatever the umask of the daemon."""
    before = os.umask(0o077)
    try:
        await storage.write_record(KEY, b"x")
        digest = await storage.write_blob(CONTENT)
    finally:
        os.umask(before)
    for path in (folder / KEY, folder / "layers" / digest.hex):
        assert path.stat().st_mode & 0o777 == 0o644


@pytest_twisted.ensureDeferred
async def test_full_disk(tmp_path: Path) -> None:
    """What found no room leaves nothing behind; an upload, once it is discarded."""
    with mounted(tmp_path, "size=1m"):
        backend = FolderBackend(tmp_path)
        storage = await backend.open()
        with backend.full():
            upload = await storage.receive()
            with pytest.raises(OSError, match="No space left"):
                await write(upload, CONTENT)
            await upload.discard()
            with pytest.raises(StorageFull):
                await storage.write_blob(CONTENT)
            with pytest.raises(StorageFull):
                await storage.write_record(KEY, CONTENT)
            assert _staged(tmp_path / "storage") == []


@pytest_twisted.ensureDeferred
async def test_failures_leave_nothing(storage: FilesystemStorage, folder: Path) -> None:
    """Whatever fails, no staged file is left."""
    upload = await storage.receive()
    await write(upload, CONTENT)
    with pytest.raises(StorageUnavailable, match="arrived"):
        await upload.commit(DIGEST, 1)
    shutil.rmtree(folder / "layers")
    (folder / "layers").touch()
    with pytest.raises(StorageUnavailable, match="layers"):
        await storage.write_blob(CONTENT)
    with pytest.raises(StorageUnavailable, match="layers"):
        await store(storage, CONTENT)
    with pytest.raises(StorageUnavailable, match="layers"):
        await storage.locate(DIGEST)
    assert _staged(folder) == []


@pytest.fixture
def steps(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What happens to files below the folder: ``synced``, or ``placed`` under a name."""
    found: list[tuple[str, str]] = []
    fsync, replace = os.fsync, os.replace

    def record(kind: str, path: str) -> None:
        place = os.path.relpath(path, folder)
        found.append((kind, "staged" if place.startswith("staging/") else place))

    def sync(file: int) -> None:
        fsync(file)
        record("synced", os.readlink(f"/proc/self/fd/{file}"))

    def place(source: str, target: str) -> None:
        replace(source, target)
        record("placed", target)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "replace", place)
    return found


@pytest_twisted.ensureDeferred
async def test_what_a_power_cut_leaves(
    storage: FilesystemStorage, steps: list[tuple[str, str]]
) -> None:
    """Bytes are on the disk before they have a name, and the names of all blobs before a record
    that lasts; for those that need not, the disk is not waited for."""
    contents = [CONTENT, b"another", b"a third"]
    for content in contents:
        await store(storage, content)
        await storage.write_record("builds/" + "a" * 64, b"layer", lasting=False)
    await storage.write_record(KEY, b"record")
    blobs = [f"layers/{Digest.of(content).hex}" for content in contents]
    layers = [[("synced", "staged"), ("placed", blob)] for blob in blobs]
    hint = ("placed", "builds/" + "a" * 64)
    assert steps == [
        *(step for layer in layers for step in [*layer, hint]),
        *[("synced", "layers"), ("synced", "staged")],
        *[("placed", KEY), ("synced", os.path.dirname(KEY))],
    ]


@pytest_twisted.ensureDeferred
async def test_left_commit(storage: FilesystemStorage, folder: Path) -> None:
    """A commit that its caller has left and discarded leaves no staged file."""
    for _ in range(20):
        upload = await storage.receive()
        await write(upload, CONTENT)
        commit = Deferred.fromCoroutine(upload.commit(DIGEST, len(CONTENT)))
        commit.addErrback(lambda failure: failure.trap(CancelledError))
        commit.cancel()
        await upload.discard()
        assert _staged(folder) == []
    await store(storage, CONTENT)
    assert await storage.read_blob(DIGEST, LIMIT) == CONTENT


@pytest_twisted.ensureDeferred
async def test_trusted_without_reading(storage: FilesystemStorage, folder: Path) -> None:
    """What was committed isn't read a second time by the process that did so, but by others."""
    upload = await storage.receive()
    await write(upload, CONTENT)
    told = Digest.of(b"what the packer told, if it were wrong")
    await upload.commit(told, len(CONTENT))
    assert (await storage.locate(told)).size == len(CONTENT)
    other = FilesystemStorage(reactor, str(folder))
    await other.start()
    await assert_unknown(other, told)


@pytest_twisted.ensureDeferred
async def test_kept(storage: FilesystemStorage, folder: Path) -> None:
    """A verified blob stays the same file when it is stored again."""
    await store(storage, CONTENT)
    before = (folder / "layers" / DIGEST.hex).stat()
    await store(storage, CONTENT)
    await storage.write_blob(CONTENT)
    assert (folder / "layers" / DIGEST.hex).stat() == before


@pytest_twisted.ensureDeferred
async def test_damage_at_once(tmp_path: Path) -> None:
    """Damage is noticed however soon after the commit it happens: here nothing takes time."""
    with mounted(tmp_path, "size=1m"):
        backend = FolderBackend(tmp_path)
        storage = await backend.open()
        for _ in range(30):
            for mend in (storage.write_blob, lambda content: store(storage, content)):
                await mend(CONTENT)
                await backend.damage(DIGEST, CONTENT[::-1])
                await assert_unknown(storage, DIGEST)


def _folder_there(path: Path) -> None:
    path.unlink()
    (path / "with").mkdir(parents=True)
    (path / "with" / "something").touch()


def _link_there(path: Path) -> None:
    shutil.copy(path, path.parent.parent / "elsewhere")
    path.unlink()
    path.symlink_to(path.parent.parent / "elsewhere")


def _pipe_there(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _loop_there(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


STRANGE = [_folder_there, _link_there, _pipe_there, _loop_there]


@pytest.mark.parametrize("replace", STRANGE)
@pytest_twisted.ensureDeferred
async def test_no_plain_file(
    storage: FilesystemStorage, folder: Path, replace: Callable[[Path], None]
) -> None:
    """What is no plain file is no blob: it is dropped or replaced, and nothing is followed."""
    path = folder / "layers" / DIGEST.hex
    for mend in (storage.write_blob, lambda content: store(storage, content)):
        for noticed in (True, False):
            await mend(CONTENT)
            replace(path)
            assert await storage.missing_blobs([descriptor(CONTENT)]) == [DIGEST]
            if noticed:
                await assert_unknown(storage, DIGEST)
                assert not os.path.lexists(path)
            await mend(CONTENT)
            assert await storage.read_blob(DIGEST, LIMIT) == CONTENT
            assert not path.is_symlink()
    if replace is _link_there:
        assert (folder / "elsewhere").read_bytes() == CONTENT
    assert _staged(folder) == []


@pytest.mark.parametrize("replace", STRANGE)
@pytest_twisted.ensureDeferred
async def test_no_plain_record(
    storage: FilesystemStorage, folder: Path, replace: Callable[[Path], None]
) -> None:
    """What is no plain file is no record, and can be written over and deleted."""
    for undo in (storage.delete_record, lambda key: storage.write_record(key, b"anew")):
        await storage.write_record(KEY, b"record")
        replace(folder / KEY)
        assert await storage.read_record(KEY) is None
        await undo(KEY)
    assert await storage.read_record(KEY) == b"anew"


@pytest_twisted.ensureDeferred
async def test_unreadable() -> None:
    """A file that can't be read is as good as lost, and made anew."""
    with unprivileged() as folder:
        storage = await FolderBackend(folder).open()
        await storage.write_blob(CONTENT)
        await storage.write_record(KEY, b"record")
        for path in (folder / "storage" / KEY, folder / "storage" / "layers" / DIGEST.hex):
            path.chmod(0)
        assert await storage.read_record(KEY) is None
        await assert_unknown(storage, DIGEST)
        await storage.write_record(KEY, b"record")
        await storage.write_blob(CONTENT)
        assert await storage.read_record(KEY) == b"record"
        assert await storage.read_blob(DIGEST, LIMIT) == CONTENT


@pytest_twisted.ensureDeferred
async def test_damage_that_must_stay() -> None:
    """A damaged blob that can't be removed isn't served either."""
    with unprivileged() as folder:
        backend = FolderBackend(folder)
        storage = await backend.open()
        await storage.write_blob(CONTENT)
        await backend.damage(DIGEST, CONTENT[::-1])
        (folder / "storage" / "layers").chmod(0o555)
        for _ in range(2):
            with pytest.raises(StorageUnavailable, match=f"Permission denied .*{DIGEST.hex} "):
                await storage.locate(DIGEST)
        (folder / "storage" / "layers").chmod(0o755)


@pytest.mark.parametrize("name", ["staging", "layers", "builds", "manifests", "used", "."])
@pytest_twisted.ensureDeferred
async def test_cleared_by_hand(storage: FilesystemStorage, folder: Path, name: str) -> None:
    """An operator may delete the folders, or all of them, while the daemon runs."""
    await storage.write_blob(CONTENT)
    await storage.write_record(KEY, b"record")
    shutil.rmtree(folder / name)
    assert await storage.read_record(KEY) == (None if name in (".", "builds") else b"record")
    await storage.missing_blobs([descriptor(CONTENT)])
    assert await store(storage, CONTENT) == DIGEST
    await storage.write_record(KEY, b"again")
    assert await storage.read_blob(DIGEST, LIMIT) == CONTENT
    assert await storage.read_record(KEY) == b"again"


@pytest.mark.parametrize("name", ["staging", "layers", "builds", "provenance"])
@pytest_twisted.ensureDeferred
async def test_probe(storage: FilesystemStorage, folder: Path, name: str) -> None:
    """A probe notices a folder that is none, and makes one that is missing."""
    shutil.rmtree(folder / name)
    await storage.probe()
    shutil.rmtree(folder / name)
    (folder / name).touch()
    with pytest.raises(StorageUnavailable, match=name):
        await storage.probe()


@pytest_twisted.ensureDeferred
async def test_no_files_for_what_is_asked_for(storage: FilesystemStorage, folder: Path) -> None:
    """Whoever asks for digests that nobody has leaves no file for any of them."""
    for number in range(10):
        with pytest.raises(BlobUnknown):
            await storage.locate(Digest.of(bytes([number])))
    assert os.listdir(folder / "used") == []


@pytest_twisted.ensureDeferred
async def test_all_in_threads(tmp_path: Path) -> None:
    """The reactor's thread opens, renames, lists and removes nothing."""
    watching, seen = True, []
    reactors = threading.get_ident()

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if watching and threading.get_ident() == reactors and str(tmp_path) in str(arguments):
            seen.append(event)

    sys.addaudithook(watch)
    storage: IStorage = await FolderBackend(tmp_path).open()
    await store(storage, CONTENT)
    await storage.write_blob(CONTENT)
    await storage.write_record(KEY, b"record")
    await storage.read_record(KEY)
    await storage.delete_record(KEY)
    other = await FolderBackend(tmp_path).open()
    await other.read_blob(DIGEST, LIMIT)
    upload = await storage.receive()
    with pytest.raises(StorageUnavailable):
        await upload.commit(DIGEST, 1)
    await upload.discard()
    watching = False
    assert seen == []


# --- leases ---------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_lease_files(storage: FilesystemStorage, folder: Path) -> None:
    """A lease is a locked file, which is removed with it; one that a process left when it was
    killed is free."""
    (folder / "leases" / "0a").touch()
    lease = await storage.lease("0a")
    assert os.listdir(folder / "leases") == ["0a"]
    await lease.release()
    assert os.listdir(folder / "leases") == []


@pytest_twisted.ensureDeferred
async def test_lease_of_another_process(storage: FilesystemStorage, folder: Path) -> None:
    """A lease that another process holds is free when that is killed, and not before."""
    program = "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.flock(f, 2); print(flush=True);"
    command = [sys.executable, "-c", program + "sys.stdin.read()", str(folder / "leases" / "0a")]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout is not None
    await deferToThread(holder.stdout.readline)
    waiting = Deferred.fromCoroutine(storage.lease("0a"))
    await deferLater(reactor, 0.3)
    assert not waiting.called
    holder.kill()
    await (await waiting).release()
    with holder:
        pass


@pytest_twisted.ensureDeferred
async def test_a_lease_that_nobody_waits_for(storage: FilesystemStorage, folder: Path) -> None:
    """Who leaves in the moment in which the lease is taken does not hold it."""
    for _ in range(4):
        taking = Deferred.fromCoroutine(storage.lease("0a"))
        taking.addErrback(lambda failure: failure.trap(CancelledError))
        taking.cancel()
        await taking
        await (await storage.lease("0a")).release()
    while os.listdir(folder / "leases"):  # the thread of the last one that left may be at it
        await deferLater(reactor, 0.01, lambda: None)


@pytest_twisted.ensureDeferred
async def test_many_records(storage: FilesystemStorage, folder: Path) -> None:
    """Thousands of records are listed, what is none beside them is not, and neither is one where
    somebody has removed their folder."""
    keys = {f"builds/{number:08x}" for number in range(2500)}
    for key in keys:
        (folder / key).touch()
    (folder / "builds" / "notes.txt").touch()
    assert {key async for key in storage.list_records("builds/")} == keys
    (folder / "served").rmdir()
    assert [key async for key in storage.list_records("served/")] == []
