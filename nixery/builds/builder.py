"""From an image's name to its manifest."""

from collections.abc import Sequence

import attrs
from twisted.internet.defer import Deferred
from zope.interface import implementer

from nixery.builds.cache import Cache
from nixery.builds.coalescing import Asker, SharedBuilds, Wanted, provenance_of
from nixery.builds.failures import Hints
from nixery.builds.indexes import Indexes, MadeIndex
from nixery.builds.making import ImageMaker, set_key
from nixery.coalesce import Coalescer
from nixery.history.history import History
from nixery.interfaces import IBuilder, IResolver, IStorage, OnBuild, Provenance, Pull
from nixery.model.digest import Digest
from nixery.model.image import AMD64, Image
from nixery.model.image_key import image_key
from nixery.model.limits import BuildLimits
from nixery.model.manifest import INDEX_TYPE, Manifest
from nixery.model.request_errors import ImageInvalid
from nixery.model.source import PinnedSource
from nixery.model.tags import LATEST
from nixery.reactor import IReactor

NO_HINTS = Hints()


@implementer(IBuilder)
class Builder:
    """Serves known images from the cache, and has others made.

    :ivar queue: the builds that wait for their turn, or have it.
    """

    def __init__(
        self,
        reactor: IReactor,
        resolver: IResolver,
        storage: IStorage,
        cache: Cache,
        maker: ImageMaker,
        history: History,
        limits: BuildLimits,
        hints: Hints = NO_HINTS,
        systems: Sequence[str] = (AMD64,),
    ) -> None:
        """
        :param systems: Nix systems of the platforms that a name without one stands for; the first
            is for those who take no index.
        """
        self._resolver = resolver
        self._cache = cache
        self._maker = maker
        self._most_packages = limits.packages
        self._resolving: Coalescer[str, PinnedSource] = Coalescer()
        self._systems = systems
        self._indexes = Indexes(reactor.seconds, cache, self._image)
        self._builds = SharedBuilds(reactor, storage, cache, maker, history, limits, hints)
        self.queue = self._builds.queue
        self._given_up: Deferred[None] | None = None

    async def manifest(
        self,
        image: Image,
        on_build: OnBuild | None = None,
        client: str = "",
        request: str = "",
        behind: bool = False,
        index: str = INDEX_TYPE,
    ) -> Pull:
        if len(image.own) > (most := self._most_packages):
            reason = f"it names {len(image.own)} packages; the limit is {most}"
            raise ImageInvalid(image.name, reason)
        changes = self._cache.changes()
        pinned = await self._resolve(image.tag, client)
        asker = Asker(on_build, client, request, behind)
        wanted = [self._wanted(each, pinned) for each in self._images(image, index)]
        if len(wanted) == 1:
            found = MadeIndex(await self._image(wanted[0], asker))
        else:
            found = await self._indexes.get(image, wanted, index, asker)
        manifest, provenance = found.manifest, provenance_of(pinned)
        self._cache.note_provenance(manifest.digest, provenance)

        def again() -> bool:
            current = self._resolver.current(image.tag)
            if self._cache.changes() != changes or current is None or current != pinned:
                return False
            if current.stale != pinned.stale:  # which is no part of what makes them equal
                return False
            self._cache.note_again(manifest.digest, provenance)
            return True

        holds = changes is not None and found.lasts
        return Pull(manifest, provenance, again if holds else None)

    async def known(self, image: Image) -> tuple[PinnedSource, Manifest] | None:
        """The revision that an image's tag stands for, and the image's manifest, that for the first
        platform where its name says none.

        :return: None if the image of that revision has not been made.
        """
        pinned = await self._resolve(image.tag)
        manifest = await self._cache.manifest(
            self._wanted(self.usual(image), pinned).key, again=True
        )
        return None if manifest is None else (pinned, manifest)

    async def stored_manifest(self, digest: Digest) -> Pull:
        changes = self._cache.changes()
        manifest = await self._cache.stored(digest)
        provenance = await self._cache.provenance(digest)

        def again() -> bool:
            same = self._cache.changes() == changes
            return same and self._cache.noted_provenance(digest) == provenance

        return Pull(manifest, provenance, again if changes is not None else None)

    async def provenance(self) -> Provenance:
        return provenance_of(await self.latest())

    async def latest(self) -> PinnedSource:
        """The current package set."""
        return await self.pinned(LATEST)

    async def pinned(self, tag: str) -> PinnedSource:
        """The immutable revision that a tag stands for: see
        :meth:`nixery.interfaces.IResolver.resolve`."""
        return await self._resolve(tag)

    async def refresh(self) -> None:
        """Ask the source anew: see :meth:`nixery.interfaces.IResolver.refresh`."""
        await self._resolver.refresh()

    async def tags(self) -> list[str]:
        return await self._resolver.tags()

    async def stop(self) -> None:
        """Give up all builds, and wait until none is left."""
        await self._resolving.stop()
        await self.give_up()

    def give_up(self) -> Deferred[None]:
        """Give up all builds, and begin none; known images are still served.

        :return: fires when none is left; the same for all callers.
        """
        if self._given_up is None:
            self._given_up = self._builds.stop()
            self._given_up.addCallback(lambda _: self._maker.layers.stop())
        return self._given_up

    def _resolve(self, tag: str, client: str = "") -> Deferred[PinnedSource]:
        return self._resolving.join(tag, lambda: self._resolver.resolve(tag, client))

    def usual(self, image: Image) -> Image:
        """The image for the first platform, where a name says none."""
        return image if image.has_platform else image.on(self._systems[0])

    def of_platforms(self, image: Image) -> list[Image]:
        """The images, each for one platform, that are made where this one is asked for."""
        return self._images(image, INDEX_TYPE)

    def _images(self, image: Image, index: str) -> list[Image]:
        """The images of the platforms that are asked for.

        :param index: empty for one of them.
        """
        if image.has_platform or not index:
            return [self.usual(image)]
        return [image.on(system) for system in self._systems]

    async def _image(self, wanted: Wanted, asker: Asker) -> Manifest:
        """The manifest of an image for one platform, which is made if need be."""
        image, pinned = wanted.image, wanted.pinned
        manifest = await self._cache.manifest(wanted.key)
        if manifest is None and (official := image.official) is not None:
            manifest = await self._official(wanted.key, self._wanted(official, pinned), asker)
            if manifest is None:
                wanted = self._wanted(attrs.evolve(image, prefixed=False), pinned)
                manifest = await self._cache.manifest(wanted.key)
        return manifest or await self._builds.wait(wanted, asker)

    def _wanted(self, image: Image, pinned: PinnedSource) -> Wanted:
        maker = self._maker
        key = image_key(image, pinned, maker.budget, maker.layers.packer, maker.naming)
        return Wanted(key, image, pinned)

    async def _official(self, alias: str, wanted: Wanted, asker: Asker) -> Manifest | None:
        """The manifest of ``NAME``, when ``library/NAME`` was asked for: by the same build as for
        clients that ask for ``NAME``.

        Docker's own registry keeps official images below ``library/``, and some clients put that
        before every single name: it counts only if the set has a package of that name.

        :param alias: the image key of ``library/NAME``, which stands for ``NAME`` from then on.
        :return: None if the set has something named ``library``.
        """
        has_library, key = self._maker.has_library, set_key(wanted.pinned, wanted.image.system)
        manifest = None
        while (known := has_library.get(key)) is None:
            # A build that runs already may take the image of another instance, and not evaluate.
            manifest = await self._builds.wait(attrs.evolve(wanted, evaluate=True), asker)
        if known:
            return None
        manifest = manifest or await self._cache.manifest(wanted.key)
        if manifest is None:
            manifest = await self._builds.wait(wanted, asker)
        await self._cache.remember_key(alias, manifest.digest)
        return manifest
