"""Layers made and kept: what is known is never packed again, and nothing twice at a time."""

from collections.abc import Sequence

import attrs
from twisted.internet.defer import Deferred

from nixery.builds.cache import Cache
from nixery.builds.gather import gather
from nixery.coalesce import Coalescer
from nixery.interfaces import IBlobs, INix, IUpload
from nixery.model.errors import PackerKilled, PackingFailed, StorageUnavailable
from nixery.model.events import Emit, Packed, Stored
from nixery.model.manifest import Descriptor, Layer
from nixery.model.source import canonical_sha256
from nixery.model.tree import Data, Entry, File, Folder, Link
from nixery.packing import tar
from nixery.packing.codecs import media_type, packer_version
from nixery.packing.job import PackedLayer, PackJob
from nixery.packing.workers import Packers


@attrs.frozen
class Contents:
    """What a layer is to hold: store paths, and the entries of a root file system."""

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
    """Packs layers into the storage."""

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

    async def known(self, contents: Sequence[Contents]) -> list[Layer | None]:
        """Those of some layers that are stored, each at its place."""
        return await gather([self._cache.layer(c.key(self.packer)) for c in contents])

    async def make(self, contents: Contents, emit: Emit) -> Layer:
        """Pack and store a layer, or wait for another image's build that is just doing so.

        :raises PackingFailed: if it can't be packed.
        :raises PackerKilled: if the packing process was killed, and the next one too.
        :raises StorageFull: if there is no room for it.
        :raises StorageUnavailable: if it can't be written.
        """
        key = contents.key(self.packer)
        layer = await self._packing.join(key, lambda: self._make(key, contents, emit))
        emit(Stored(str(layer.descriptor.digest)))
        return layer

    def stop(self) -> Deferred[None]:
        """Give up what is being packed; fires when nothing is any more."""
        return self._packing.stop()

    async def _make(self, key: str, contents: Contents, emit: Emit) -> Layer:
        try:
            layer = await self._store(contents, emit)
        except PackerKilled:  # by someone who knows nothing of the layer
            layer = await self._store(contents, emit)
        await self._cache.remember_layer(key, layer)
        return layer

    async def _store(self, contents: Contents, emit: Emit) -> Layer:
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

    async def _pack(self, contents: Contents, upload: IUpload) -> PackedLayer:
        try:
            return await self._packers.pack(self._job(contents, upload.sink))
        except (PackingFailed, StorageUnavailable):
            # What can't be written may be so because the storage takes no more.
            if upload.fault is not None:
                raise upload.fault from None
            raise

    def _job(self, contents: Contents, sink: str) -> PackJob:
        paths = [(path, self._nix.physical(path)) for path in contents.paths]
        entries = [_tar_entry(name, entry) for name, entry in contents.entries]
        return PackJob(sink, self._compression, paths, entries)


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
