# mypy: disable-error-code="import-untyped,untyped-decorator"
"""The storage that tests of higher floors use keeps the same promises as the real ones."""

import contextlib
import os
from collections.abc import Iterator

import pytest
import pytest_twisted

from nixery.interfaces import IStorage, Location, Value
from nixery.model.digest import Digest
from nixery.model.errors import NixeryError
from nixery.model.service_errors import StorageUnavailable
from nixery.storage.memory import MemoryStorage
from tests.storage.backend import CONTENT, KEY, descriptor, store, write
from tests.storage.contract import StorageContract


class MemoryBackend:
    """Instances can't share memory: there is one for all."""

    def __init__(self) -> None:
        self._storage = MemoryStorage()

    async def open(self) -> IStorage:
        await self._storage.start()
        return self._storage

    async def damage(self, digest: Digest, content: bytes | None) -> None:
        if content is None:
            self._storage.blobs.pop(digest, None)
        else:
            self._storage.blobs[digest] = content

    @contextlib.contextmanager
    def full(self) -> Iterator[None]:
        self._storage.full = True
        yield
        self._storage.full = False

    async def load(self, location: Location) -> bytes:
        assert isinstance(location, Value)
        return location.content


class TestMemory(StorageContract):
    @pytest.fixture
    def backend(self) -> MemoryBackend:
        return MemoryBackend()


@pytest_twisted.ensureDeferred
async def test_wrong_digest() -> None:
    """A commit under a digest that is not that of what was written is a fault that shows."""
    storage = MemoryStorage()
    upload = await storage.receive()
    await write(upload, CONTENT)
    with pytest.raises(StorageUnavailable, match="arrived"):
        await upload.commit(Digest.of(b"something else"), len(CONTENT))
    assert storage.blobs == {}


@pytest_twisted.ensureDeferred
async def test_nothing_left_behind() -> None:
    """No file is left of an upload once it is over, and none at all of a storage that is gone."""
    storage = MemoryStorage()
    await store(storage, CONTENT)
    upload = await storage.receive()
    await write(upload, CONTENT)
    folder = os.path.dirname(upload.sink)
    assert os.listdir(folder) == [os.path.basename(upload.sink)]
    await upload.discard()
    assert os.listdir(folder) == []
    del storage, upload
    assert not os.path.exists(folder)


@pytest_twisted.ensureDeferred
async def test_fault() -> None:
    """While a fault is set, every method raises it."""
    storage = MemoryStorage()
    storage.fault = StorageUnavailable("it is a test")
    for attempt in (
        storage.start(),
        storage.read_record(KEY),
        storage.write_record(KEY, b""),
        storage.delete_record(KEY),
        storage.write_blob(CONTENT),
        storage.read_blob(Digest.of(CONTENT), 1),
        storage.missing_blobs([descriptor(CONTENT)]),
        storage.locate(Digest.of(CONTENT)),
        storage.receive(),
    ):
        with pytest.raises(NixeryError, match="it is a test"):
            await attempt
    assert storage.changes() is None


@pytest_twisted.ensureDeferred
async def test_changes() -> None:
    """That a blob comes, or comes again, is no loss; that one goes or becomes another one is."""
    storage = MemoryStorage()
    before = storage.changes()
    for content in (CONTENT, CONTENT, b"other"):
        await storage.write_blob(content)
    assert storage.changes() == before is not None
    seen: set[int | None] = {before}
    storage.blobs[Digest.of(CONTENT)] = b"altered"
    seen.add(storage.changes())
    del storage.blobs[Digest.of(CONTENT)]
    seen.add(storage.changes())
    storage.blobs.pop(Digest.of(b"other"), None)
    seen.add(storage.changes())
    storage.blobs.clear()
    seen.add(storage.changes())
    assert len(seen) == 5
