"""Making an image: Nix's realisation, grouped, packed and stored."""

from collections.abc import Callable, Sequence
from functools import partial

import attrs
from twisted.internet.defer import CancelledError, Deferred

from nixery.builds.keep_alive import keep_alive
from nixery.builds.layers import LayerContents, LayerMaker, gather
from nixery.interfaces import IBlobs, INix, IResolver
from nixery.model import events
from nixery.model.build_errors import ClosureTooLarge, PackingFailed
from nixery.model.closure import Realisation, closure_size
from nixery.model.digest import Digest
from nixery.model.events import Emit, Event
from nixery.model.execution import Execution, furnish
from nixery.model.grouping import group_layers
from nixery.model.identity import COMMIT, Identity, Naming
from nixery.model.image import Image
from nixery.model.inner_store import has_nix, store_entries
from nixery.model.manifest import (
    CONFIG_TYPE,
    Descriptor,
    Layer,
    Manifest,
    config_bytes,
    make_manifest,
)
from nixery.model.popularity import Popularity
from nixery.model.registration import ValidPath
from nixery.model.rootfs import USER, RootFs
from nixery.model.service_errors import SourceChanged
from nixery.model.source import PinnedSource, canonical_json
from nixery.model.tree import Output
from nixery.packing.database import make_database
from nixery.packing.libraries import find_c_library, find_data
from nixery.packing.listing import MOST, list_output, weight
from nixery.reactor import IReactor, in_thread
from nixery.recent import Recent

Physical = Callable[[str], str]
"""Gives the place of a store path's files on this machine."""
_TOOLS = ("bash", "sh", "sleep")
"""Programs that are of use in every image that has them."""
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
    naming: Naming
    has_library: Recent[str, bool] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.has_library = Recent(self._reactor.seconds, _MOST_SETS)

    async def make(self, image: Image, pinned: PinnedSource, emit: Emit) -> Manifest:
        """Make an image. Its blobs are stored, its manifest is not.

        :raises NixeryError: what kept it from being made.
        """
        emit(events.Resolved(str(pinned.source), pinned.revision))
        emit(events.Evaluating())
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
            rootfs, execution = await self._furnish(image, identity, realisation, emit)
            contents = await self._group(realisation, rootfs)
            with keep_alive(self._reactor, self._storage) as keep:
                layers = await self._make_layers(contents, keep, emit)
        finally:
            await self._nix.release(realisation)
        content = config_bytes(image, layers, execution, identity)
        digest = await self._storage.write_blob(content)
        config = Descriptor(CONFIG_TYPE, digest, len(content))
        return make_manifest(config, layers, execution.labels)

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

    async def _furnish(
        self, image: Image, identity: Identity, realisation: Realisation, emit: Emit
    ) -> tuple[RootFs, Execution]:
        """The root file system, and how containers of the image are run."""
        physical = self._nix.physical
        try:
            outputs = await in_thread(self._reactor, list_outputs, realisation, physical)
            registered = await self._nix.registered(realisation) if has_nix(outputs) else None
            furnished = partial(furnish_image, image, identity, realisation, outputs)
            rootfs, execution = await in_thread(self._reactor, furnished, registered, physical)
        except OSError as error:
            raise PackingFailed(str(error.filename), error.strerror or str(error)) from error
        for collision in rootfs.collisions:
            emit(collision)
        tools = tuple(tool for tool in _TOOLS if f"bin/{tool}" in rootfs.entries)
        entrypoint, command = tuple(execution.entrypoint), tuple(execution.command)
        emit(events.Furnished(entrypoint, command, tuple(execution.programs), tools))
        return rootfs, execution

    async def _group(self, realisation: Realisation, rootfs: RootFs) -> list[LayerContents]:
        """The contents of all layers, the lowest first, with the root file system on top."""
        graph, entries = realisation.graph, tuple(rootfs.entries.items())
        if self.budget == 1:
            return [LayerContents(tuple(sorted(graph)), entries)]
        # One table for the whole image: a reload replaces it, and does not change it.
        group = partial(group_layers, graph, realisation.paths, self._popularity())
        groups = await in_thread(self._reactor, group, self.budget - 1)
        contents = [LayerContents(tuple(sorted(group))) for group in groups]
        return [*contents, LayerContents(entries=entries)]

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


def list_outputs(realisation: Realisation, physical: Physical, most: int = MOST) -> list[Output]:
    """The listings of all outputs of an image's packages. Blocks.

    :param most: bytes of memory for all listings, as by :func:`weight`.
    :raises OSError: if a file can't be read.
    :raises TooManyFiles: if there is too much to list.
    """
    # Two names of one output are one package: the first of them.
    packages: dict[str, str] = {}
    for root in realisation.roots:
        for path in root.paths:
            packages.setdefault(path, root.package)
    outputs, left = [], most
    for path, package in packages.items():
        listing = list_output(path, physical, left)
        left -= weight(listing)
        outputs.append(Output(package, path, listing))
    return outputs


def furnish_image(
    image: Image,
    identity: Identity,
    realisation: Realisation,
    outputs: Sequence[Output],
    registered: Sequence[ValidPath] | None,
    physical: Physical,
) -> tuple[RootFs, Execution]:
    """An image's root file system, and how its containers are run. Blocks.

    :param registered: the realisation's store paths, if the image has Nix.
    :raises EvaluationFailed: if a package's data for images is invalid.
    :raises OSError: if a file can't be read.
    """
    graph = realisation.graph
    c_library = find_c_library(graph, image.system, physical)
    data = find_data(graph, physical)
    own = None
    if registered is not None:
        owner = USER if image.user else 0
        own = store_entries(make_database(registered), realisation.paths, owner)
    return furnish(image, realisation, outputs, identity, c_library, data, own)
