"""A storage for images that are made to be compared: it takes everything, and keeps nothing."""

from collections.abc import Sequence

from nixery.model.digest import Digest
from nixery.storage.memory import MemoryStorage, MemoryUpload


class _Nowhere(MemoryUpload):
    """An upload whose bytes are dropped: the packing process tells their digest."""

    async def commit(self, digest: Digest, size: int) -> None:
        pass

    async def discard(self) -> None:
        pass


class Rehearsal(MemoryStorage):
    """A storage in which nothing is known, whatever was written: so all is made."""

    async def write_blob(self, content: bytes) -> Digest:
        return Digest.of(content)

    async def write_record(self, key: str, content: bytes, lasting: bool = True) -> None:
        pass

    async def use(self, blobs: Sequence[Digest]) -> None:
        pass

    async def receive(self) -> MemoryUpload:
        return _Nowhere(self, "/dev/null")
