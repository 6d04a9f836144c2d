"""Layers, made and stored: known ones are not packed again, and none twice at a time."""

from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, TypeVar

import attrs
from twisted.internet.defer import Deferred, DeferredList, succeed

from nixery.builds.cache import Cache
from nixery.coalesce import Coalescer
from nixery.interfaces import IBlobs, INix, IUpload
from nixery.model.build_errors import PackerKilled, PackingFailed
from nixery.model.events import Emit, Packed, Stored
from nixery.model.manifest import Descriptor, Layer
from nixery.model.service_errors import StorageUnavailable
from nixery.packing.codecs import media_type, packer_version
from nixery.packing.job import FurnishedRoot, FurnishJob, PackedLayer, PackJob
from nixery.packing.workers import Packers

T = TypeVar("T")


@attrs.frozen
class LayerContents:
    """The contents of a layer.

    :param key: the layer key, which stands for the layer's bytes.
    :param paths: its store paths.
    :param entries: the file with the entries of a root file system, if it has them: see
        :class:`nixery.packing.job.PackJob`.
    """

    key: str
    paths: Sequence[str] = ()
    entries: str | None = None


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
        self._used: dict[str, Deferred[None]] = {}

    async def known(self, contents: Sequence[LayerContents]) -> list[Layer | None]:
        """The stored layer for each contents, or None."""
        return await gather([self._cache.layer(each.key) for each in contents])

    async def make(self, contents: LayerContents, emit: Emit) -> Layer:
        """Pack and store a layer, or wait for another build that is packing it.

        :raises PackingFailed: if it can't be packed.
        :raises PackerKilled: if two packing processes in a row were killed.
        :raises StorageFull: if there is no room for it.
        :raises StorageUnavailable: if it can't be written.
        """
        layer = await self._packing.join(contents.key, lambda: self._make(contents, emit))
        emit(Stored(str(layer.descriptor.digest)))
        return layer

    def stop(self) -> Deferred[None]:
        """Give up all packing; fires when none is left."""
        return self._packing.stop()

    def prepare(self) -> None:
        """Have a packing process ready for a build that has begun."""
        self._packers.prepare()

    async def furnish(self, job: FurnishJob) -> FurnishedRoot:
        """Make the root file system of an image: for errors see :meth:`Packers.run`."""
        return await _once_more(lambda: self._packers.run(job))

    async def _make(self, contents: LayerContents, emit: Emit) -> Layer:
        over = self._used[contents.entries or contents.key] = Deferred()
        try:
            layer = await _once_more(lambda: Deferred.fromCoroutine(self._store(contents, emit)))
            await self._cache.remember_layer(contents.key, layer)
            return layer
        finally:
            del self._used[contents.entries or contents.key]
            over.callback(None)

    def when_packed(self, entries: str) -> Deferred[None]:
        """Fires when no layer is packed from a file of entries any more: builds that wait for a
        layer need it even if the build that the file is of is given up."""
        return self._used.get(entries, succeed(None))

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
        job = PackJob(upload.sink, self._compression, paths, contents.entries)
        try:
            return await self._packers.run(job)
        except (PackingFailed, StorageUnavailable):
            # The cause of a failed write may be that the storage takes no more.
            if upload.fault is not None:
                raise upload.fault from None
            raise


async def _once_more(attempt: Callable[[], Deferred[T]]) -> T:
    """Make an attempt, and another one if its packing process was killed: for want of memory, say,
    and not because of this job."""
    try:
        return await attempt()
    except PackerKilled:
        return await attempt()


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
