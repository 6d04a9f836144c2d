"""One image's way from its name to its manifest."""

from collections.abc import Awaitable, Mapping

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorThreads, IReactorTime
from twisted.internet.threads import deferToThreadPool
from zope.interface import implementer

from nixery.builds.cache import Cache
from nixery.builds.gather import gather
from nixery.builds.history import History
from nixery.builds.layers import Contents, LayerMaker
from nixery.builds.record import Record
from nixery.coalesce import Coalescer
from nixery.interfaces import IBuilder, INix, IResolver, IStorage, OnBuild, Provenance, Pull
from nixery.model.closure import Realisation, closure_size
from nixery.model.digest import Digest
from nixery.model.errors import PackingFailed, ShuttingDown, SourceChanged
from nixery.model.events import Emit, Evaluating, Grouped, Measured, Realised, Resolved
from nixery.model.image import Image
from nixery.model.layers import group_layers
from nixery.model.manifest import (
    CONFIG_TYPE,
    Descriptor,
    Layer,
    Manifest,
    config_bytes,
    make_manifest,
)
from nixery.model.rootfs import Output, RootFs, make_rootfs
from nixery.model.source import PinnedSource, image_key
from nixery.model.tags import LATEST
from nixery.packing.listing import list_output


class IBuilderReactor(IReactorThreads, IReactorTime):
    """What the builder needs of a reactor."""


@implementer(IBuilder)
class Builder:
    """Makes images and remembers them."""

    def __init__(
        self,
        reactor: IBuilderReactor,
        resolver: IResolver,
        nix: INix,
        storage: IStorage,
        cache: Cache,
        layers: LayerMaker,
        budget: int,
        popularity: Mapping[str, int],
        history: History,
    ) -> None:
        """
        :param budget: the most layers that an image may have, the root file system among them.
        :param popularity: package name-version → how many packages refer to it directly.
        """
        self._reactor = reactor
        self._resolver = resolver
        self._nix = nix
        self._storage = storage
        self._cache = cache
        self._layers = layers
        self._budget = budget
        self._popularity = popularity
        self._history = history
        self._records: dict[str, Record] = {}
        self._resolving: Coalescer[str, PinnedSource] = Coalescer()
        self._running: Coalescer[str, Manifest] = Coalescer()

    async def manifest(self, image: Image, on_build: OnBuild | None = None) -> Pull:
        pinned = await self._resolve(image.tag)
        key = image_key(image, pinned, self._budget, self._layers.packer)
        manifest = await self._cache.manifest(key)
        if manifest is None:
            manifest = await self._wait(key, image, pinned, on_build)
        provenance = _provenance(pinned)
        self._cache.note_provenance(manifest.digest, provenance)
        return Pull(manifest, provenance)

    async def stored_manifest(self, digest: Digest) -> Pull:
        manifest = await self._cache.manifest_of(digest)
        return Pull(manifest, await self._cache.provenance(digest))

    async def provenance(self) -> Provenance:
        return _provenance(await self._resolve(LATEST))

    async def tags(self) -> list[str]:
        return await self._resolver.tags()

    async def stop(self) -> None:
        """Give up all builds, and wait until none is left."""
        await self._resolving.stop()
        await self._running.stop()
        await self._layers.stop()

    def _resolve(self, tag: str) -> Deferred[PinnedSource]:
        return self._resolving.join(tag, lambda: self._resolver.resolve(tag))

    def _wait(
        self, key: str, image: Image, pinned: PinnedSource, on_build: OnBuild | None
    ) -> Deferred[Manifest]:
        """Wait for the build of an image, which is begun if none runs."""
        record = self._records.get(key)

        def start() -> Awaitable[Manifest]:
            nonlocal record
            record = self._begin(key, image)
            return self._record(record, key, image, pinned)

        waiting = self._running.join(key, start)
        if record is not None:
            record.asked(self._running.waiting(key))
            if on_build is not None:
                on_build(record.id)
        return waiting

    def _begin(self, key: str, image: Image) -> Record:
        record = self._history.begin(key, image.name, image.tag)
        record.waiting = lambda: self._running.waiting(key)
        self._records[key] = record
        return record

    async def _record(
        self, record: Record, key: str, image: Image, pinned: PinnedSource
    ) -> Manifest:
        try:
            manifest = await self._make(key, image, pinned, record.emit)
        except BaseException as error:
            record.failed(_reason(error), getattr(error, "derivation", None))
            raise
        finally:
            del self._records[key]
        record.done(str(manifest.digest))
        return manifest

    async def _make(self, key: str, image: Image, pinned: PinnedSource, emit: Emit) -> Manifest:
        """Make an image, unless another instance is just doing so: then wait and take that."""
        lease = await self._storage.lease(key)
        try:
            return await self._cache.manifest(key) or await self._make_now(key, image, pinned, emit)
        finally:
            await lease.release()

    async def _make_now(self, key: str, image: Image, pinned: PinnedSource, emit: Emit) -> Manifest:
        manifest = await self._build(image, pinned, emit)
        await self._cache.remember_manifest(key, manifest, _provenance(pinned))
        return manifest

    async def _build(self, image: Image, pinned: PinnedSource, emit: Emit) -> Manifest:
        emit(Resolved(str(pinned.source), pinned.revision))
        emit(Evaluating())
        realisation = await self._nix.realise(image, pinned, emit)
        graph = realisation.graph
        emit(Realised(len(graph), sum(node["size"] for node in graph.values())))
        try:
            await self._measure(realisation, emit)
            if not await self._resolver.unchanged(pinned):
                raise SourceChanged(str(pinned.source))
            rootfs = await self._rootfs(realisation, emit)
            layers = await self._make_layers(realisation, rootfs, emit)
        finally:
            await self._nix.release(realisation)
        content = config_bytes(image, layers, rootfs.has_certificates)
        digest = await self._storage.write_blob(content)
        return make_manifest(Descriptor(CONFIG_TYPE, digest, len(content)), layers)

    async def _measure(self, realisation: Realisation, emit: Emit) -> None:
        """Tell what each package brings along."""

        def measure() -> list[Measured]:
            return [
                Measured(root.package, *closure_size(realisation.graph, root.path))
                for root in realisation.roots
            ]

        pool = self._reactor.getThreadPool()
        for event in await deferToThreadPool(self._reactor, pool, measure):
            emit(event)

    async def _rootfs(self, realisation: Realisation, emit: Emit) -> RootFs:
        def look() -> RootFs:
            # Two names of one output are one package: the first of them.
            packages: dict[str, str] = {}
            for root in realisation.roots:
                packages.setdefault(root.path, root.package)
            outputs = [
                Output(package, path, list_output(path, self._nix.physical))
                for path, package in packages.items()
            ]
            return make_rootfs(outputs)

        try:
            rootfs = await deferToThreadPool(self._reactor, self._reactor.getThreadPool(), look)
        except OSError as error:
            raise PackingFailed(str(error.filename), error.strerror or str(error)) from error
        for collision in rootfs.collisions:
            emit(collision)
        return rootfs

    async def _make_layers(
        self, realisation: Realisation, rootfs: RootFs, emit: Emit
    ) -> list[Layer]:
        contents = await self._contents(realisation, rootfs)
        known = await self._layers.known(contents)
        emit(Grouped(len(contents), sum(layer is not None for layer in known)))

        async def layer(number: int) -> Layer:
            return known[number] or await self._layers.make(contents[number], emit)

        return await gather(layer(number) for number in range(len(contents)))

    async def _contents(self, realisation: Realisation, rootfs: RootFs) -> list[Contents]:
        """What goes into which layer, the lowest first, the root file system on top."""
        paths = [root.path for root in realisation.roots]
        entries = tuple(rootfs.entries.items())
        if self._budget == 1:
            return [Contents(tuple(sorted(realisation.graph)), entries)]

        def group() -> list[list[str]]:
            return group_layers(realisation.graph, paths, self._popularity, self._budget - 1)

        pool = self._reactor.getThreadPool()
        groups = await deferToThreadPool(self._reactor, pool, group)
        return [*(Contents(tuple(sorted(group))) for group in groups), Contents(entries=entries)]


def _provenance(pinned: PinnedSource) -> Provenance:
    return Provenance(pinned.source.label, pinned.revision, pinned.stale)


def _reason(error: BaseException) -> str:
    """What people are told of a build that did not end well."""
    if isinstance(error, CancelledError):
        error = ShuttingDown()
    return str(error) or type(error).__name__
