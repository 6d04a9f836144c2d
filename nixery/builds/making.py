"""Making an image: Nix's realisation, grouped, packed and stored."""

from collections.abc import Callable

import attrs
from twisted.internet.defer import CancelledError, Deferred

from nixery.builds.keep_alive import keep_alive
from nixery.builds.layers import LayerContents, LayerMaker, gather
from nixery.interfaces import IBlobs, INix, IResolver
from nixery.model import events
from nixery.model.build_errors import ClosureTooLarge
from nixery.model.closure import Realisation, closure_size
from nixery.model.contents import contents_of, pack_contents
from nixery.model.digest import Digest
from nixery.model.events import Emit, Event
from nixery.model.grouping import group_layers
from nixery.model.identity import COMMIT, Identity, Naming
from nixery.model.image import Image
from nixery.model.layer_key import layer_key
from nixery.model.manifest import (
    CONFIG_TYPE,
    Descriptor,
    Layer,
    Manifest,
    config_bytes,
    make_manifest,
)
from nixery.model.popularity import Popularity
from nixery.model.service_errors import SourceChanged
from nixery.model.source import PinnedSource, canonical_json
from nixery.nix.disk_faults import state_faults
from nixery.packing.furnishing import FurnishRequest
from nixery.packing.job import FurnishedRoot, FurnishJob
from nixery.packing.libraries import have_nix
from nixery.reactor import IReactor, in_thread
from nixery.recent import Recent
from nixery.storage.filesystem.files import remove

_MOST_SETS = 512


def set_key(pinned: PinnedSource, system: str) -> str:
    """Stands for a package set: a revision, its configuration, and the system."""
    told = attrs.asdict(pinned.configuration) if pinned.configuration else None
    return canonical_json([pinned.pin.identity(), told, system])


@attrs.define(eq=False)
class ImageMaker:
    """Makes images, and stores their blobs.

    :param layers: makes the layers.
    :param budget: the most layers of an image, including the root file system.
    :param popularity: gives the current table, by which an image's layers are grouped.
    :param closure_limit: bytes of an image's store paths together.
    :param new_file: gives a path for a file that is needed for a while; blocks.
    :param naming: what images say of their source.
    :ivar has_library: whether sets that were evaluated have something named ``library``, by
        :func:`set_key`.
    """

    _reactor: IReactor
    _resolver: IResolver
    _nix: INix
    _storage: IBlobs
    layers: LayerMaker
    budget: int
    _popularity: Callable[[], Popularity]
    _closure_limit: int
    _new_file: Callable[[], str]
    naming: Naming
    has_library: Recent[str, bool] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.has_library = Recent(self._reactor.seconds, _MOST_SETS)

    async def make(self, image: Image, pinned: PinnedSource, emit: Emit) -> tuple[Manifest, str]:
        """Make an image. Its blobs are stored, its manifest is not.

        :return: the manifest, and the contents as :meth:`Cache.remember_manifest` takes them.
        :raises NixeryError: what kept it from being made.
        """
        emit(events.Resolved(str(pinned.source), pinned.revision))
        emit(events.Evaluating())
        self.layers.prepare()
        realisation = await self._realise(image, pinned, emit)
        self.has_library.put(set_key(pinned, image.system), realisation.has_library)
        try:
            size = sum(node["size"] for node in realisation.graph.values())
            emit(events.Realised(len(realisation.graph), size))
            if size > self._closure_limit:
                raise ClosureTooLarge(size, self._closure_limit)
            for event in await in_thread(self._reactor, _measure, realisation):
                emit(event)
            if not await self._resolver.unchanged(pinned):
                raise SourceChanged(str(pinned.source))
            dated = self.naming.created == COMMIT
            created = await self._resolver.date(pinned) if dated else None
            address = self.naming.address(pinned)
            identity = Identity(image.name, pinned.revision, address, created)
            layers, root = await self._layers_of(image, identity, realisation, emit)
        finally:
            await self._nix.release(realisation)
        run = root.execution
        content = config_bytes(image, layers, run, identity)
        digest = await self._storage.write_blob(content)
        config = Descriptor(CONFIG_TYPE, digest, len(content))
        made = self._reactor.seconds()
        facts = image, pinned, realisation, layers, made, address, run.programs, root.tools
        packed = await in_thread(self._reactor, lambda: pack_contents(contents_of(*facts)))
        return make_manifest(config, layers, run.labels), packed

    async def _realise(self, image: Image, pinned: PinnedSource, emit: Emit) -> Realisation:
        """Have Nix make the packages, unless it announces to load more than an image may have."""
        too_large: list[ClosureTooLarge] = []

        def watch(event: Event) -> None:
            emit(event)
            if isinstance(event, events.FetchesPlanned) and event.unpacked > self._closure_limit:
                too_large.append(ClosureTooLarge(event.unpacked, self._closure_limit))
                realising.cancel()

        realising = Deferred.fromCoroutine(self._nix.realise(image, pinned, watch))
        try:
            return await realising
        except CancelledError:
            if too_large:
                raise too_large[0] from None
            raise

    async def _layers_of(
        self, image: Image, identity: Identity, realisation: Realisation, emit: Emit
    ) -> tuple[list[Layer], FurnishedRoot]:
        """An image's layers, and its root file system."""
        with state_faults():
            entries = await in_thread(self._reactor, self._new_file)
        try:
            made = await self._furnish(image, identity, realisation, entries, emit)
            arguments = realisation, made.key, entries, self._popularity()
            contents = await in_thread(self._reactor, self._group, *arguments)
            with keep_alive(self._reactor, self._storage) as keep:
                return await self._make_layers(contents, keep, emit), made
        finally:
            removed = self.layers.when_packed(entries)
            removed.addCallback(lambda _: in_thread(self._reactor, remove, entries))
            if removed.called:
                await removed

    async def _furnish(
        self, image: Image, identity: Identity, realisation: Realisation, sink: str, emit: Emit
    ) -> FurnishedRoot:
        """Make the root file system; its entries are in the sink then."""
        physical, registered = self._nix.physical, None
        if await in_thread(self._reactor, have_nix, realisation.paths, physical):
            registered = await self._nix.registered(realisation)
        beside = tuple(realisation.graph) if self.budget == 1 else ()
        request = FurnishRequest(
            image, identity, realisation, registered, physical(""), self.layers.packer, beside
        )
        made = await self.layers.furnish(FurnishJob(sink, request, emit))
        run = made.execution
        programs, tools = tuple(run.programs), tuple(made.tools)
        emit(events.Furnished(tuple(run.entrypoint), tuple(run.command), programs, tools))
        return made

    def _group(
        self, realisation: Realisation, key: str, entries: str, popularity: Popularity
    ) -> list[LayerContents]:
        """The contents of all layers, the lowest first, with the root file system on top. Blocks.

        :param key: of the layer with the root file system.
        :param popularity: one table for the whole image: a reload replaces it.
        """
        graph = realisation.graph
        if self.budget == 1:
            return [LayerContents(key, sorted(graph), entries)]
        groups = group_layers(graph, realisation.paths, popularity, self.budget - 1)
        packer = self.layers.packer
        contents = [LayerContents(layer_key(packer, group), sorted(group)) for group in groups]
        return [*contents, LayerContents(key, entries=entries)]

    async def _make_layers(
        self,
        contents: list[LayerContents],
        keep: Callable[[list[Digest]], None],
        emit: Emit,
    ) -> list[Layer]:
        """All layers of an image; known and finished ones are kept until the last is made."""
        known = await self.layers.known(contents)
        keep([layer.descriptor.digest for layer in known if layer is not None])
        emit(events.Grouped(len(contents), sum(layer is not None for layer in known)))

        async def layer(known: Layer | None, contents: LayerContents) -> Layer:
            made = known or await self.layers.make(contents, emit)
            keep([made.descriptor.digest])
            return made

        return await gather(map(layer, known, contents))


def _measure(realisation: Realisation) -> list[events.Measured]:
    """The closure of each package. Blocks."""
    return [
        events.Measured(root.package, *closure_size(realisation.graph, *root.paths))
        for root in realisation.roots
    ]
