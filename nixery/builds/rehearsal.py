"""A storage for images that are made to be compared: it takes everything, and keeps nothing."""

from collections.abc import Sequence

import attrs
from zope.interface import implementer

from nixery.interfaces import IUpload
from nixery.model.digest import Digest
from nixery.model.errors import NixeryError
from nixery.model.manifest import Descriptor


@implementer(IUpload)
@attrs.frozen
class _Nowhere:
    """An upload whose bytes are dropped: the packing process tells their digest."""

    sink: str = "/dev/null"
    fault: NixeryError | None = None

    async def commit(self, digest: Digest, size: int) -> None:
        pass

    async def discard(self) -> None:
        pass


class Rehearsal:
    """As much of a storage as the parts use that make an image. Nothing is known in it, so that all
    is made."""

    async def write_blob(self, content: bytes) -> Digest:
        return Digest.of(content)

    async def receive(self) -> _Nowhere:
        return _Nowhere()

    async def use(self, blobs: Sequence[Digest]) -> None:
        pass

    async def missing_blobs(self, blobs: Sequence[Descriptor]) -> list[Digest]:
        return []

    async def read_record(self, key: str, fresh: bool = False) -> bytes | None:
        return None

    async def write_record(self, key: str, content: bytes, lasting: bool = True) -> None:
        pass
