"""A storage in memory, for tests of the floors above: nothing of it outlives the process."""

import os
import shutil
import tempfile
import uuid
import weakref
from collections.abc import AsyncIterator, Sequence
from typing import Any

from twisted.internet.defer import DeferredLock
from zope.interface import implementer

from nixery.interfaces import ILease, IStorage, IUpload, Tidied, Value
from nixery.model.digest import Digest
from nixery.model.errors import NixeryError
from nixery.model.manifest import Descriptor
from nixery.model.request_errors import BlobUnknown
from nixery.model.service_errors import StorageFull, StorageUnavailable
from nixery.storage.keys import check_lease_key, check_record_key, check_record_prefix


@implementer(IUpload)
class MemoryUpload:
    """A blob in the making, as a temporary file: child processes write into it."""

    def __init__(self, storage: "MemoryStorage", sink: str) -> None:
        self.sink = sink
        self.fault: NixeryError | None = None
        self._storage = storage

    async def commit(self, digest: Digest, size: int) -> None:
        try:
            with open(self.sink, "rb") as file:
                content = file.read()
        except FileNotFoundError:
            raise StorageUnavailable("nothing was written to the sink") from None
        finally:
            await self.discard()
        if len(content) != size or Digest.of(content) != digest:
            raise StorageUnavailable(f"not the {size} bytes of {digest} arrived")
        await self._storage.write_blob(content)

    async def discard(self) -> None:
        if os.path.exists(self.sink):
            os.unlink(self.sink)


@implementer(ILease)
class MemoryLease:
    """A lock that is held."""

    def __init__(self, lock: DeferredLock) -> None:
        self._lock: DeferredLock | None = lock

    async def release(self) -> None:
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.release()


class _Blobs(dict[Digest, bytes]):
    """Counts how often one was taken out, or put over another."""

    changes = 0

    def __setitem__(self, digest: Digest, content: bytes) -> None:
        self.changes += self.get(digest, content) != content
        super().__setitem__(digest, content)

    def __delitem__(self, digest: Digest) -> None:
        self.changes += 1
        super().__delitem__(digest)

    def pop(self, digest: Digest, *default: Any) -> Any:
        self.changes += 1
        return super().pop(digest, *default)

    def clear(self) -> None:
        self.changes += 1
        super().clear()


@implementer(IStorage)
class MemoryStorage:
    """A storage whose insides are open to tests, which may take things out or alter them.

    :ivar blobs: digest → bytes.
    :ivar records: key → bytes.
    :ivar used: what was said to be of use, in this order.
    :ivar full: while it is set, nothing can be stored.
    :ivar fault: while it is set, every method raises it.
    """

    def __init__(self) -> None:
        self.blobs = _Blobs()
        self.records: dict[str, bytes] = {}
        self.used: list[Digest] = []
        self.full = False
        self.fault: NixeryError | None = None
        self._folder: str | None = None
        self._leases: dict[str, DeferredLock] = {}

    async def start(self) -> None:
        self._check()

    def stop(self) -> None:
        pass

    async def tidy(self) -> Tidied:
        self._check()
        return Tidied()

    async def probe(self) -> None:
        self._check_room()

    async def read_record(self, key: str, fresh: bool = False) -> bytes | None:
        self._check()
        return self.records.get(check_record_key(key))

    async def write_record(self, key: str, content: bytes, lasting: bool = True) -> None:
        self._check_room()
        self.records[check_record_key(key)] = content

    async def delete_record(self, key: str) -> None:
        self._check()
        self.records.pop(check_record_key(key), None)

    async def list_records(self, prefix: str) -> AsyncIterator[str]:
        self._check()
        for key in [key for key in self.records if key.startswith(check_record_prefix(prefix))]:
            yield key

    async def write_blob(self, content: bytes) -> Digest:
        self._check_room()
        digest = Digest.of(content)
        self.blobs[digest] = content
        return digest

    async def read_blob(self, digest: Digest, limit: int) -> bytes:
        content = self._verified(digest)
        if len(content) > limit:
            raise BlobUnknown(str(digest))
        return content

    async def use(self, blobs: Sequence[Digest]) -> None:
        self.used.extend(blobs)

    async def missing_blobs(self, blobs: Sequence[Descriptor]) -> list[Digest]:
        self._check()
        return [
            blob.digest
            for blob in blobs
            if blob.digest not in self.blobs or len(self.blobs[blob.digest]) != blob.size
        ]

    async def drop(self, blobs: Sequence[Digest], used: bool = False) -> list[Digest]:
        self._check()
        stay = [digest for digest in blobs if digest in self.used and not used]
        for digest in blobs:
            if digest not in stay and digest in self.blobs:
                del self.blobs[digest]
        return stay

    def changes(self) -> int | None:
        return self.blobs.changes if self.fault is None else None

    async def locate(self, digest: Digest) -> Value:
        return Value(self._verified(digest))

    async def receive(self) -> MemoryUpload:
        self._check_room()
        if self._folder is None:
            self._folder = tempfile.mkdtemp(prefix="nixery-")
            weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        return MemoryUpload(self, os.path.join(self._folder, uuid.uuid4().hex))

    async def lease(self, key: str) -> ILease:
        self._check()
        lock = self._leases.setdefault(check_lease_key(key), DeferredLock())
        await lock.acquire()
        return MemoryLease(lock)

    def _verified(self, digest: Digest) -> bytes:
        self._check()
        content = self.blobs.get(digest)
        if content is None or Digest.of(content) != digest:
            self.blobs.pop(digest, None)
            raise BlobUnknown(str(digest))
        return content

    def _check_room(self) -> None:
        self._check()
        if self.full:
            raise StorageFull()

    def _check(self) -> None:
        if self.fault is not None:
            raise self.fault
