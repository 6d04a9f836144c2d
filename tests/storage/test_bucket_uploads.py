# mypy: disable-error-code="import-untyped,untyped-decorator"
"""Layers on their way into the bucket: in little memory, past all faults, and leaving nothing."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import attrs
import pytest
import pytest_twisted
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet import reactor as _reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import blockingCallFromThread, deferToThread

from nixery.interfaces import IUpload
from nixery.model.digest import Digest
from nixery.model.service_errors import StorageFull, StorageUnavailable
from tests.gcs.faults import Faults
from tests.storage.backend import CONTENT, LIMIT, descriptor, store, write
from tests.storage.bucket_place import OPTIONS, STEP, BucketPlace

reactor: Any = _reactor

CHUNK = OPTIONS.uploads.part
HUGE = bytes(range(256)) * 40_000 + b"the rest"  # ten chunks


@pytest.fixture(autouse=True)
def _pipes_apart(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("pipes")))


def _descriptors() -> set[str]:
    return {
        os.readlink(f"/proc/self/fd/{name}")
        for name in os.listdir("/proc/self/fd")
        if os.path.exists(f"/proc/self/fd/{name}")
    }


def _pipes() -> list[str]:
    """The pipes that this process holds open."""
    return [path for path in _descriptors() if path.startswith(f"{tempfile.tempdir}/")]


def _left() -> list[str]:
    """What uploads have left in the file system."""
    return [str(path) for path in Path(tempfile.gettempdir()).glob("nixery-*/*")]


def _begin_writing(upload: IUpload, size: int, chunk: int = 65536) -> "subprocess.Popen[bytes]":
    """Another process writes zeros, and waits for its end."""
    program = (
        f"f = open({upload.sink!r}, 'wb', 0)\n"
        f"for _ in range({size} // {chunk}): f.write(bytes({chunk}))\n"
        "import time; time.sleep(100)"
    )
    return subprocess.Popen([sys.executable, "-c", program])


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 2 * CHUNK + 1])
@pytest_twisted.ensureDeferred
async def test_sizes(place: BucketPlace, size: int) -> None:
    """Blobs that end before, at and behind the end of a chunk come whole; those of one chunk by
    a single request."""
    storage = await place.open()
    content = (bytes(range(255)) * (size // 255 + 1))[:size]
    digest = await store(storage, content)
    assert place.server.content(f"layers/{digest.hex}") == content
    assert await storage.read_blob(digest, LIMIT) == content
    assert place.server.count("upload.start") == (size > CHUNK)
    assert place.server.count("upload.media") == (size <= CHUNK)
    assert set(place.server.objects) == {f"layers/{digest.hex}"}
    assert (_pipes(), _left()) == ([], [])


@pytest_twisted.ensureDeferred
async def test_any_content(place: BucketPlace) -> None:
    """Whatever the pieces in which a packer writes, the blob is what it wrote."""
    storage = place.make(uploads=attrs.evolve(OPTIONS.uploads, part=STEP))

    async def check(sizes: list[int]) -> None:
        pieces = [os.urandom(1) * size for size in sizes]
        upload = await storage.receive()
        await deferToThread(_write_pieces, upload.sink, pieces)
        content = b"".join(pieces)
        await upload.commit(Digest.of(content), len(content))
        assert place.server.content(f"layers/{Digest.of(content).hex}") == content

    @given(st.lists(st.integers(0, 2 * STEP), max_size=6))
    @settings(max_examples=15, deadline=None)
    def check_all(sizes: list[int]) -> None:
        in_reactor: Any = Deferred.fromCoroutine
        blockingCallFromThread(reactor, in_reactor, check(sizes))

    await deferToThread(check_all)


def _write_pieces(sink: str, pieces: list[bytes]) -> None:
    with open(sink, "wb", buffering=0) as file:
        for piece in pieces:
            file.write(piece)


@pytest_twisted.ensureDeferred
async def test_written_again(place: BucketPlace) -> None:
    """A blob that is there whole is not written again, by either way; a damaged one is."""
    storage = await place.open()
    for content in (CONTENT, HUGE):
        digest = await store(storage, content)
        generation = place.server.objects[f"layers/{digest.hex}"].generation
        await store(storage, content)
        assert place.server.objects[f"layers/{digest.hex}"].generation == generation
        await place.damage(digest, content[:-1])
        await store(storage, content)
        assert place.server.content(f"layers/{digest.hex}") == content


@pytest_twisted.ensureDeferred
async def test_another_writes_meanwhile(place: BucketPlace) -> None:
    """What another instance puts in the place in the last moment is looked at: damaged, it is
    replaced."""
    storage = await place.open()
    for content in (CONTENT, HUGE):
        name = f"layers/{Digest.of(content).hex}"
        calls: list[str] = []

        def meddle(written: str, name: str = name, calls: list[str] = calls) -> None:
            if written == name and not calls:
                calls.append(written)
                place.server.put(name, b"something else")

        place.server.bucket.before_write = meddle
        await store(storage, content)
        assert calls
        assert place.server.content(name) == content


# --- memory ---------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_back_pressure(place: BucketPlace) -> None:
    """While the bucket takes nothing, a packer is held up after two chunks and a pipe."""
    storage = await place.open()
    place.server.faults = Faults(lambda kind, asked: "hang" if kind == "upload.chunk" else None)
    upload = await storage.receive()
    pieces, written = [bytes(STEP)] * 40, 0

    def write_all() -> None:
        nonlocal written
        with open(upload.sink, "wb", buffering=0) as file:
            for piece in pieces:
                file.write(piece)
                written += len(piece)

    writing = deferToThread(write_all)
    while not place.server.count("upload.chunk") or written < 2 * CHUNK:
        await deferLater(reactor, 0.01)
    await deferLater(reactor, 0.2)
    assert not writing.called
    assert written <= 2 * CHUNK + 1024 * 1024 + 2 * STEP
    place.server.faults = Faults()
    place.server.release()
    await writing
    content = b"".join(pieces)
    await upload.commit(Digest.of(content), len(content))
    assert place.server.content(f"layers/{Digest.of(content).hex}") == content


@pytest_twisted.ensureDeferred
async def test_few_at_once(place: BucketPlace) -> None:
    """Of many uploads few are read at a time; in the end all are there."""
    storage = await place.open()
    contents = [bytes([number]) * (3 * CHUNK) for number in range(8)]
    place.server.faults = Faults(lambda kind, asked: "hang" if kind == "upload.chunk" else None)
    storing = [Deferred.fromCoroutine(store(storage, content)) for content in contents]
    while place.server.count("upload.chunk") < OPTIONS.uploads.at_once:
        await deferLater(reactor, 0.01)
    await deferLater(reactor, 0.2)
    assert place.server.count("upload.start") == OPTIONS.uploads.at_once
    place.server.faults = Faults()
    place.server.release()
    for stored in storing:
        await stored
    assert await storage.missing_blobs([descriptor(content) for content in contents]) == []


# --- endings --------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, STEP, 5 * CHUNK])
@pytest_twisted.ensureDeferred
async def test_a_packer_that_dies(place: BucketPlace, size: int) -> None:
    """A packer that is killed, before its first byte or in the middle, leaves nothing once the
    upload is discarded."""
    storage = await place.open()
    upload = await storage.receive()
    if size:
        packer = _begin_writing(upload, size)
        while not place.server.count("upload.chunk") and size > CHUNK:
            await deferLater(reactor, 0.01)
        packer.send_signal(signal.SIGKILL)
        await deferToThread(packer.wait)
    await upload.discard()
    assert (_pipes(), _left()) == ([], [])
    assert place.server.objects == {}
    assert place.server.unfinished == 0
    assert place.server.count("upload.start") == (size > CHUNK)
    assert await store(storage, HUGE) == Digest.of(HUGE)


@pytest_twisted.ensureDeferred
async def test_discarded_while_written(place: BucketPlace) -> None:
    """A packer that still writes when its upload is discarded gets an error, at once."""
    storage = await place.open()
    upload = await storage.receive()
    writing = write(upload, bytes(20 * CHUNK))
    written = Deferred.fromCoroutine(writing)
    while not place.server.count("upload.chunk"):
        await deferLater(reactor, 0.01)
    await upload.discard()
    with pytest.raises(BrokenPipeError):
        await written
    assert (_pipes(), _left()) == ([], [])


@pytest_twisted.ensureDeferred
async def test_discards_give_turns_back(place: BucketPlace) -> None:
    """However many uploads fail in the middle, the next one goes."""
    storage = await place.open()
    for _ in range(3 * OPTIONS.uploads.at_once):
        upload = await storage.receive()
        await write(upload, b"a little")
        await deferLater(reactor, 0.005)
        await upload.discard()
    assert await store(storage, HUGE) == Digest.of(HUGE)


@pytest_twisted.ensureDeferred
async def test_the_cause_is_said(place: BucketPlace) -> None:
    """If the bucket is full, the packer's broken pipe is not what is told."""
    storage = await place.open()
    with place.full():
        upload = await storage.receive()
        with pytest.raises(BrokenPipeError):
            await write(upload, bytes(20 * CHUNK))
        assert isinstance(upload.fault, StorageFull)
        with pytest.raises(StorageFull):
            await upload.commit(Digest.of(b""), 0)
    assert (_pipes(), _left()) == ([], [])


@pytest_twisted.ensureDeferred
async def test_wrong_digest(place: BucketPlace) -> None:
    """A commit under another digest fails before anything is in its place."""
    storage = await place.open()
    for content in (CONTENT, HUGE):
        upload = await storage.receive()
        await write(upload, content)
        with pytest.raises(StorageUnavailable, match="arrived"):
            await upload.commit(Digest.of(b"something else"), len(content))
    assert place.server.objects == {}
    assert (_pipes(), _left()) == ([], [])


@pytest_twisted.ensureDeferred
async def test_commit_is_cancelled(place: BucketPlace) -> None:
    """A commit that is given up, as at the end of the daemon, leaves nothing here."""
    storage = await place.open()
    upload = await storage.receive()
    await write(upload, CONTENT)
    place.server.faults = Faults(lambda kind, asked: "hang" if kind == "upload.media" else None)
    committing = Deferred.fromCoroutine(upload.commit(Digest.of(CONTENT), len(CONTENT)))
    while not place.server.count("upload.media"):
        await deferLater(reactor, 0.01)
    committing.cancel()
    with pytest.raises(CancelledError):
        await committing
    await upload.discard()
    await deferLater(reactor, 0.1)
    assert place.server.count("upload.media") == 1
    assert (_pipes(), _left()) == ([], [])


@pytest_twisted.ensureDeferred
async def test_a_pipe_is_private(place: BucketPlace) -> None:
    """Nobody else can write to an upload, or see it."""
    upload = await (await place.open()).receive()
    assert os.stat(upload.sink).st_mode & 0o777 == 0o600
    assert os.stat(Path(upload.sink).parent).st_mode & 0o777 == 0o700
    await upload.discard()
