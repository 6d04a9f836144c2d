"""Layers, made and stored: known ones are not packed again, and none twice at a time."""

from collections.abc import Coroutine, Iterable, Sequence
from typing import Any, TypeVar

import attrs
from twisted.internet.defer import Deferred, DeferredList

from nixery.builds.cache import Cache
from nixery.coalesce import Coalescer
from nixery.interfaces import IBlobs, INix, IUpload
from nixery.model.build_errors import PackerKilled, PackingFailed
from nixery.model.events import Emit, Packed, Stored
from nixery.model.manifest import Descriptor, Layer
from nixery.model.service_errors import StorageUnavailable
from nixery.model.source import canonical_sha256
from nixery.model.tree import Data, Entry, File, Folder, Link
from nixery.packing import tar
from nixery.packing.codecs import media_type, packer_version
from nixery.packing.job import PackedLayer, PackJob
from nixery.packing.workers import Packers

T = TypeVar("T")


@attrs.frozen
class LayerContents:
    """The store paths and the entries of a root file system that a layer holds."""

    paths: tuple[str, ...] = ()
    entries: tuple[tuple[str, Entry], ...] = ()

    def key(self, packer: str) -> str:
        """The layer key: 64 hexadecimal digits that stand for the layer's bytes.

        :param packer: the packer's version.
        """
        return canonical_sha256(
            {
                "paths": sorted(self.paths),
                "entries": [_tar_entry(name, entry).to_json() for name, entry in self.entries],
                "packer": packer,
            }
        )


class LayerMaker:
    """Packs layers into the storage.

    :ivar packer: the packer's version.
    """

    def __init__(
        self, storage: IBlobs, cache: Cache, nix: INix, packers: Packers, compression: str
    ) -> None:
        """
        :param compression: one of :data:`nixery.packing.codecs.COMPRESSIONS`.
        """
        self.packer = packer_version(compression)
        self._storage = storage
        self._cache = cache
        self._nix = nix
        self._packers = packers
        self._compression = compression
        self._packing: Coalescer[str, Layer] = Coalescer()

    async def known(self, contents: Sequence[LayerContents]) -> list[Layer | None]:
        """The stored layer for each contents, or None."""
        return await gather([self._cache.layer(c.key(self.packer)) for c in contents])

    async def make(self, contents: LayerContents, emit: Emit) -> Layer:
        """Pack and store a layer, or wait for another build that is packing it.

        :raises PackingFailed: if it can't be packed.
        :raises PackerKilled: if two packing processes in a row were killed.
        :raises StorageFull: if there is no room for it.
        :raises StorageUnavailable: if it can't be written.
        """
        key = contents.key(self.packer)
        layer = await self._packing.join(key, lambda: self._make(key, contents, emit))
        emit(Stored(str(layer.descriptor.digest)))
        return layer

    def stop(self) -> Deferred[None]:
        """Give up all packing; fires when none is left."""
        return self._packing.stop()

    async def _make(self, key: str, contents: LayerContents, emit: Emit) -> Layer:
        try:
            layer = await self._store(contents, emit)
        except PackerKilled:  # for want of memory, say, and not because of this layer
            layer = await self._store(contents, emit)
        await self._cache.remember_layer(key, layer)
        return layer

    async def _store(self, contents: LayerContents, emit: Emit) -> Layer:
        upload = await self._storage.receive()
        try:
            packed = await self._pack(contents, upload)
            paths = tuple(sorted(contents.paths))
            emit(Packed(str(packed.digest), packed.size, packed.uncompressed, paths))
            await upload.commit(packed.digest, packed.size)
        finally:
            await upload.discard()
        descriptor = Descriptor(media_type(self._compression), packed.digest, packed.size)
        return Layer(descriptor, packed.diff_id, paths)

    async def _pack(self, contents: LayerContents, upload: IUpload) -> PackedLayer:
        paths = [(path, self._nix.physical(path)) for path in contents.paths]
        entries = [_tar_entry(name, entry) for name, entry in contents.entries]
        try:
            return await self._packers.pack(PackJob(upload.sink, self._compression, paths, entries))
        except (PackingFailed, StorageUnavailable):
            # The cause of a failed write may be that the storage takes no more.
            if upload.fault is not None:
                raise upload.fault from None
            raise


def _tar_entry(name: str, entry: Entry) -> tar.Entry:
    match entry:
        case Folder(mode=mode, owner=owner):
            return tar.Entry(name, "dir", mode, owner=owner)
        case Link(target=target):
            return tar.Entry(name, "link", target=target)
        case File(content=content, mode=mode):
            return tar.Entry(name, "file", mode, content.encode("utf-8"))
        case Data(content=data, mode=mode, owner=owner):
            return tar.Entry(name, "file", mode, data, owner=owner)


async def gather(tasks: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Run tasks side by side and wait for all to end, even if some fail.

    :return: their results, in order.
    :raises Exception: that of the first task, in order, that failed.
    """
    deferreds = [Deferred.fromCoroutine(task) for task in tasks]
    outcomes = await DeferredList(deferreds, consumeErrors=True)
    for succeeded, result in outcomes:
        if not succeeded:
            result.raiseException()  # type: ignore[attr-defined]  # a Failure then
    return [result for _, result in outcomes]
