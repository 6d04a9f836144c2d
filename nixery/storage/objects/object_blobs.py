"""Blobs among the objects of a bucket: which of them are whole, and how they come to be."""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial

import attrs
from twisted.logger import Logger

from nixery.model.digest import Digest
from nixery.storage.objects.object_store import (
    ABSENT,
    NewObject,
    PreconditionFailed,
    StoredObject,
    checksum_of,
)
from nixery.storage.objects.patient_store import Patience, PatientStore

_ATTEMPTS = 5


@attrs.frozen
class BlobFacts:
    """The facts that tell a blob's content from any other.

    :param size: bytes.
    :param checksum: CRC32C, in base64.
    """

    digest: Digest
    size: int
    checksum: str

    @classmethod
    def of(cls, content: bytes) -> "BlobFacts":
        """Of a small blob."""
        return cls(Digest.of(content), len(content), checksum_of(content))

    @property
    def metadata(self) -> Mapping[str, str]:
        """The object's metadata, in which they are noted."""
        return {
            "nixery-sha256": self.digest.hex,
            "nixery-crc32c": self.checksum,
            "nixery-size": str(self.size),
        }


def blob_name(digest: Digest) -> str:
    """The object that holds a blob."""
    return f"layers/{digest.hex}"


def is_whole(found: StoredObject, digest: Digest) -> bool:
    """Whether an object's content is what was digested when it was written.

    The store computes an object's size and checksum from its content; both must be those that
    were noted together with the digest.
    """
    facts = BlobFacts(digest, found.size, found.checksum).metadata
    return all(found.metadata.get(name) == value for name, value in facts.items())


class ObjectBlobs:
    """Puts blobs in their places: never over a whole one, always over a damaged one."""

    _log = Logger()

    def __init__(self, store: PatientStore) -> None:
        self._store = store

    async def write(self, content: bytes | memoryview, read: BlobFacts) -> StoredObject:
        """Store a blob by one request.

        :param read: the facts of its content.
        :raises StorageFull: if there is no room.
        """

        async def place(name: str, over: str) -> StoredObject:
            new = NewObject(name, content, read.metadata, read.checksum)
            return await self._store.write(new, over)

        return await self._place(read, place)

    async def take(self, staged: StoredObject, read: BlobFacts, patience: Patience) -> StoredObject:
        """Store a blob that was uploaded under another name.

        :param patience: for a copy, which takes longer the larger the blob is.
        """

        async def place(name: str, over: str) -> StoredObject:
            copying = partial(self._store.store.copy, staged, name, over, read.metadata)
            what = f"copying {staged.name} to {name}"
            return await self._store.run(what, copying, patience)

        return await self._place(read, place)

    async def drop(self, found: StoredObject) -> None:
        """Delete a damaged blob, but nothing that has taken its place since."""
        self._log.error("dropped {name}: its content was altered", name=found.name)
        await self._store.delete(found.name, found.version)

    def check_arrived(self, found: StoredObject, read: BlobFacts) -> None:
        """Compare what the store has with what was sent.

        :raises StorageUnavailable: if they differ.
        """
        if (found.size, found.checksum) != (read.size, read.checksum):
            raise self._store.unavailable(
                f"writing {found.name}", f"of {read.size} bytes, {found.size} others arrived"
            )

    async def _place(
        self, read: BlobFacts, place: Callable[[str, str], Awaitable[StoredObject]]
    ) -> StoredObject:
        name, over = blob_name(read.digest), ABSENT
        for _ in range(_ATTEMPTS):
            try:
                placed = await place(name, over)
            except PreconditionFailed:
                found = await self._store.head(name)
                if found is not None and is_whole(found, read.digest):
                    return found
                over = ABSENT if found is None else found.version
            else:
                self.check_arrived(placed, read)
                return placed
        raise self._store.unavailable(f"writing {name}", "it changes all the time")
