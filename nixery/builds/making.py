"""An image made: Nix's realisation, grouped, packed, stored."""

from collections.abc import Callable

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.threads import deferToThreadPool

from nixery.builds.furnishing import furnish_image, list_outputs
from nixery.builds.gather import gather
from nixery.builds.keep_alive import Using
from nixery.builds.layers import Contents, LayerMaker
from nixery.builds.library import Libraries
from nixery.interfaces import IBlobs, INix, IResolver
from nixery.model.closure import Realisation, closure_size
from nixery.model.errors import ClosureTooLarge, PackingFailed, SourceChanged
from nixery.model.events import (
    Emit,
    Evaluating,
    Event,
    FetchesPlanned,
    Furnished,
    Grouped,
    Measured,
    Realised,
    Resolved,
)
from nixery.model.execution import Execution
from nixery.model.grouping import group_layers
from nixery.model.identity import COMMIT, Identity, Naming
from nixery.model.image import Image
from nixery.model.inner_store import has_nix
from nixery.model.manifest import (
    CONFIG_TYPE,
    Descriptor,
    Layer,
    Manifest,
    config_bytes,
    make_manifest,
)
from nixery.model.popularity import Popularity
from nixery.model.rootfs import RootFs
from nixery.model.source import PinnedSource
from nixery.reactor import IReactor

_TOOLS = ("bash", "sh", "sleep")
"""Programs that there is a use for in every image that has them."""


class ImageMaker:
    """Makes images, and remembers nothing of them but their blobs.

    :ivar naming: what images say of their source.
    :ivar libraries: what is known of the sets that images were made of.
    """

    def __init__(
        self,
        reactor: IReactor,
        resolver: IResolver,
        nix: INix,
        storage: IBlobs,
        layers: LayerMaker,
        budget: int,
        popularity: Callable[[], Popularity],
        closure_limit: int,
        naming: Naming,
    ) -> None:
        """
        :param budget: the most layers that an image may have, the root file system among them.
        :param popularity: gives the table of the moment: an image's layers are grouped by one.
        :param closure_limit: bytes that an image's store paths may have together.
        :param naming: what images say of their source.
        """
        self.layers = layers
        self.budget = budget
        self.naming = naming
        self.libraries = Libraries()
        self._reactor = reactor
        self._resolver = resolver
        self._nix = nix
        self._storage = storage
        self._popularity = popularity
        self._closure_limit = closure_limit

    async def make(self, image: Image, pinned: PinnedSource, emit: Emit) -> Manifest:
        """Make an image whose blobs are all stored then; its manifest is not yet.

        :raises NixeryError: what kept it from being made.
        """
        emit(Resolved(str(pinned.source), pinned.revision))
        emit(Evaluating())
        realisation = await self._realise(image, pinned, emit)
        self.libraries.note(pinned, image.system, realisation.has_library)
        try:
            size = sum(node["size"] for node in realisation.graph.values())
            emit(Realised(len(realisation.graph), size))
            if size > self._closure_limit:
                raise ClosureTooLarge(size, self._closure_limit)
            await self._measure(realisation, emit)
            if not await self._resolver.unchanged(pinned):
                raise SourceChanged(str(pinned.source))
            identity = await self._identity(image, pinned)
            rootfs, execution = await self._furnish(image, identity, realisation, emit)
            with Using(self._reactor, self._storage) as using:
                layers = await self._make_layers(realisation, rootfs, using, emit)
        finally:
            await self._nix.release(realisation)
        content = config_bytes(image, layers, execution, identity)
        digest = await self._storage.write_blob(content)
        config = Descriptor(CONFIG_TYPE, digest, len(content))
        return make_manifest(config, layers, execution.labels)

    async def _realise(self, image: Image, pinned: PinnedSource, emit: Emit) -> Realisation:
        """Have Nix make it, unless what Nix is to load is more than may be in an image."""
        too_large: list[ClosureTooLarge] = []

        def watch(event: Event) -> None:
            emit(event)
            if isinstance(event, FetchesPlanned) and event.unpacked > self._closure_limit:
                too_large.append(ClosureTooLarge(event.unpacked, self._closure_limit))
                realising.cancel()

        realising = Deferred.fromCoroutine(self._nix.realise(image, pinned, watch))
        try:
            return await realising
        except CancelledError:
            if too_large:
                raise too_large[0] from None
            raise

    async def _measure(self, realisation: Realisation, emit: Emit) -> None:
        """Tell what each package brings along."""

        def measure() -> list[Measured]:
            return [
                Measured(root.package, *closure_size(realisation.graph, *root.paths))
                for root in realisation.roots
            ]

        pool = self._reactor.getThreadPool()
        for event in await deferToThreadPool(self._reactor, pool, measure):
            emit(event)

    async def _identity(self, image: Image, pinned: PinnedSource) -> Identity:
        """What an image says of itself."""
        dated = self.naming.created == COMMIT
        created = await self._resolver.date(pinned) if dated else None
        return Identity(image.name, pinned.revision, self.naming.address(pinned), created)

    async def _furnish(
        self, image: Image, identity: Identity, realisation: Realisation, emit: Emit
    ) -> tuple[RootFs, Execution]:
        """The root file system, and how a container of it is run."""
        physical = self._nix.physical
        pool = self._reactor.getThreadPool()
        try:
            outputs = await deferToThreadPool(
                self._reactor, pool, list_outputs, realisation, physical
            )
            registered = await self._nix.registered(realisation) if has_nix(outputs) else None
            rootfs, execution = await deferToThreadPool(
                self._reactor,
                pool,
                furnish_image,
                *(image, identity, realisation, outputs, registered, physical),
            )
        except OSError as error:
            raise PackingFailed(str(error.filename), error.strerror or str(error)) from error
        for collision in rootfs.collisions:
            emit(collision)
        emit(
            Furnished(
                tuple(execution.entrypoint),
                tuple(execution.command),
                tuple(execution.programs),
                tuple(tool for tool in _TOOLS if f"bin/{tool}" in rootfs.entries),
            )
        )
        return rootfs, execution

    async def _make_layers(
        self, realisation: Realisation, rootfs: RootFs, using: Using, emit: Emit
    ) -> list[Layer]:
        """The layers of an image; those that are there stay until the last one is."""
        contents = await self._contents(realisation, rootfs)
        known = await self.layers.known(contents)
        using.add(layer.descriptor.digest for layer in known if layer is not None)
        emit(Grouped(len(contents), sum(layer is not None for layer in known)))

        async def layer(number: int) -> Layer:
            made = known[number] or await self.layers.make(contents[number], emit)
            using.add([made.descriptor.digest])
            return made

        return await gather(layer(number) for number in range(len(contents)))

    async def _contents(self, realisation: Realisation, rootfs: RootFs) -> list[Contents]:
        """What goes into which layer, the lowest first, the root file system on top."""
        paths = realisation.paths
        entries = tuple(rootfs.entries.items())
        if self.budget == 1:
            return [Contents(tuple(sorted(realisation.graph)), entries)]

        popularity = self._popularity()

        def group() -> list[list[str]]:
            return group_layers(realisation.graph, paths, popularity, self.budget - 1)

        pool = self._reactor.getThreadPool()
        groups = await deferToThreadPool(self._reactor, pool, group)
        return [*(Contents(tuple(sorted(group))) for group in groups), Contents(entries=entries)]
