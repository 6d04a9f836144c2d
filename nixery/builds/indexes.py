"""Indexes: the images of several platforms made side by side, and put together."""

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from nixery.builds.cache import Cache
from nixery.builds.coalescing import Asker, Wanted
from nixery.builds.failures import OF_REGISTRY, PASSING, Hints, is_lasting
from nixery.builds.layers import gather
from nixery.coalesce import Coalescer
from nixery.interfaces import OnBuild, Provenance
from nixery.model.digest import Digest
from nixery.model.errors import NixeryError
from nixery.model.image import Image, platform_of
from nixery.model.image_key import index_key
from nixery.model.manifest import Manifest, make_index
from nixery.model.text import cut
from nixery.recent import Recent

_LONGEST_CAUSE = 200
_MOST_PARTIAL = 1000
_WITHOUT_HINTS = Hints(for_all=False)
"""An index is the same for everybody, and whatever else is known meanwhile."""


@attrs.frozen
class MadeIndex:
    """An index that is stored.

    :param lasts: whether it is all that there will be of this revision; if not, what was left out
        may be made at another pull.
    """

    manifest: Manifest
    lasts: bool = True


class Indexes:
    """Makes indexes, and knows those that last.

    Where a build has failed, the next one may take as long, to fail again: so an index without its
    platform is served at once from then on, while the build is tried again in the background.
    """

    def __init__(
        self,
        now: Callable[[], float],
        cache: Cache,
        image: Callable[[Wanted, Asker], Awaitable[Manifest]],
    ) -> None:
        """
        :param now: seconds, from any moment on.
        :param image: gives the manifest of one platform's image, which is made if need be.
        """
        self._cache = cache
        self._image = image
        self._partial: Recent[str, Digest] = Recent(now, _MOST_PARTIAL)
        self._retrying: set[str] = set()
        self._storing: Coalescer[tuple[str | None, str], None] = Coalescer()

    async def get(
        self, image: Image, wanted: Sequence[Wanted], media_type: str, asker: Asker
    ) -> MadeIndex:
        """The index of some images, which differ in their platforms.

        Each image is made as if it had been asked for alone.

        :param image: what was asked for, without a platform.
        :raises NixeryError: the first image's, if none can be made; or one of the whole registry.
        """
        key = index_key((each.key for each in wanted), media_type)
        if (known := await self._cache.manifest(key)) is not None:
            return MadeIndex(known)

        def make(asker: Asker) -> Coroutine[Any, Any, MadeIndex]:
            return self._make(key, image, wanted, media_type, asker)

        digest = self._partial.get(key)
        partial = await self._cache.whole(digest) if digest is not None else None
        if partial is None:
            return await make(asker)
        if key not in self._retrying:
            self._retrying.add(key)
            retrying = Deferred.fromCoroutine(make(attrs.evolve(asker, on_build=None, behind=True)))
            retrying.addBoth(self._retried, key)
        return MadeIndex(partial, lasts=False)

    def _retried(self, result: MadeIndex | Failure, key: str) -> None:
        self._retrying.remove(key)
        if isinstance(result, Failure):
            result.trap(NixeryError)  # its build's history tells of it

    async def _make(
        self,
        key: str,
        image: Image,
        wanted: Sequence[Wanted],
        media_type: str,
        asker: Asker,
    ) -> MadeIndex:
        """Have the images made, and store their index."""
        outcomes = await gather(
            self._outcome(each, own)
            for each, own in zip(wanted, _askers(asker, len(wanted)), strict=True)
        )
        made: dict[str, Manifest] = {}
        failed: dict[str, NixeryError] = {}
        for each, outcome in zip(wanted, outcomes, strict=True):
            platform = platform_of(each.image.system)
            if isinstance(outcome, Manifest):
                made[platform] = outcome
            else:
                failed[platform] = outcome
        if not made:
            raise next(iter(failed.values()))
        left_out = {platform: _cause(error) for platform, error in failed.items()}
        manifest = make_index(made, left_out, media_type)
        lasts = all(map(is_lasting, failed.values()))
        lasting = key if lasts else None
        await self._storing.join(
            (lasting, str(manifest.digest)),
            lambda: self._store(lasting, manifest, wanted[0].provenance, image),
        )
        if lasts:
            self._partial.forget(key)
        elif not any(isinstance(error, PASSING) for error in failed.values()):
            self._partial.put(key, manifest.digest)
        return MadeIndex(manifest, lasts)

    async def _outcome(self, wanted: Wanted, asker: Asker) -> Manifest | NixeryError:
        try:
            return await self._image(wanted, asker)
        except OF_REGISTRY:
            raise  # an index without a platform would say something of that
        except NixeryError as error:
            return error

    async def _store(
        self, key: str | None, manifest: Manifest, provenance: Provenance, image: Image
    ) -> None:
        """Store an index; many may ask for one that does not last."""
        if key is not None or await self._cache.whole(manifest.digest) is None:
            await self._cache.remember_manifest(key, manifest, provenance, image=image)


def _askers(asker: Asker, count: int) -> list[Asker]:
    """An asker for each of some images; whoever asks is told of the build of the first of them that
    there is one for."""
    builds: dict[int, str] = {}

    def told(tell: OnBuild, place: int) -> OnBuild:
        def on_build(id: str) -> None:
            builds[place] = id
            tell(builds[min(builds)])

        return on_build

    tell = asker.on_build
    return [attrs.evolve(asker, on_build=tell and told(tell, place)) for place in range(count)]


def _cause(error: NixeryError) -> str:
    """Why an image could not be made, in a line for everybody."""
    shown = _WITHOUT_HINTS.recorded(error)
    assert isinstance(shown, NixeryError)
    return cut(" ".join(shown.public().cause.split()), _LONGEST_CAUSE)
