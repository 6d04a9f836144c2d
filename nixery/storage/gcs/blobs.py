"""Blobs among the objects of a bucket: whole ones, and how they come to be."""

from collections.abc import Awaitable, Callable, Mapping

from twisted.logger import Logger

from nixery.model.digest import Digest
from nixery.storage.gcs.answer import unavailable
from nixery.storage.gcs.bucket import (
    ABSENT,
    Bucket,
    Object,
    PreconditionFailed,
    checksum_of,
)
from nixery.storage.gcs.pipe import Read

_ATTEMPTS = 5


def blob_name(digest: Digest) -> str:
    """The object that holds a blob."""
    return f"layers/{digest.hex}"


def describe(read: Read) -> dict[str, str]:
    """What is noted of a blob beside its content."""
    return {
        "nixery-sha256": read.digest.hex,
        "nixery-crc32c": read.crc32c,
        "nixery-size": str(read.size),
    }


def digested(content: bytes) -> Read:
    """What a small blob is known by."""
    return Read(Digest.of(content), len(content), checksum_of(content))


def is_whole(found: Object, digest: Digest) -> bool:
    """Whether an object's content is what was digested when it was written.

    The service computes an object's size and checksum from its content; both must be those that
    were noted together with the digest.
    """
    noted = found.metadata
    return (
        noted.get("nixery-sha256") == digest.hex
        and noted.get("nixery-size") == str(found.size)
        and noted.get("nixery-crc32c") == found.crc32c
    )


class Blobs:
    """Puts blobs in their places: never over a whole one, always over a damaged one."""

    _log = Logger()

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket

    async def write(self, content: bytes | memoryview, read: Read) -> Object:
        """Store a blob by one request.

        :param read: what its content is known by.
        :raises StorageFull: if there is no room.
        """
        name, metadata = blob_name(read.digest), describe(read)

        async def place(over: int) -> Object:
            return await self._bucket.write(
                name, content, over=over, metadata=metadata, crc32c=read.crc32c
            )

        return await self._place(read, place)

    async def take(self, staged: Object, read: Read) -> Object:
        """Store a blob that was uploaded under another name."""
        name, metadata = blob_name(read.digest), describe(read)

        async def place(over: int) -> Object:
            return await self._bucket.copy(staged, name, over=over, metadata=metadata)

        return await self._place(read, place)

    async def drop(self, found: Object) -> None:
        """Delete a damaged blob, but nothing that has taken its place since."""
        self._log.error("dropped {name}: its content was altered", name=found.name)
        await self._bucket.delete(found.name, found.generation)

    async def _place(self, read: Read, place: Callable[[int], Awaitable[Object]]) -> Object:
        over = ABSENT
        for _ in range(_ATTEMPTS):
            try:
                placed = await place(over)
            except PreconditionFailed:
                found = await self._bucket.stat(blob_name(read.digest))
                if found is not None and is_whole(found, read.digest):
                    return found
                over = ABSENT if found is None else found.generation
            else:
                check_arrived(placed, read)
                return placed
        raise unavailable(f"writing {blob_name(read.digest)}", "it changes all the time")


def check_arrived(found: Object | Mapping[str, object], read: Read) -> Object:
    """Compare what the service has with what was sent.

    :raises StorageUnavailable: if they differ.
    """
    placed = found if isinstance(found, Object) else Object.parse(found)
    if (placed.size, placed.crc32c) != (read.size, read.crc32c):
        raise unavailable(
            f"writing {placed.name}", f"of {read.size} bytes, {placed.size} others arrived"
        )
    return placed
