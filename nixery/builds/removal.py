"""Images that are removed: unknown at once, while those who load them get what they came for.

The manifest is dropped first, so that an image is made anew for the next who asks for it. A client
that has the manifest still finds all blobs that it names: they are noted, and dropped once the
grace of a pull is over, but for those of other images, and those that are being loaded even then.
"""

import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from typing import Any

import attrs
from twisted.logger import Logger

from nixery.builds.artifacts import nothing_attached
from nixery.builds.cache import Cache
from nixery.builds.known_images import KnownImages
from nixery.coalesce import Coalescer
from nixery.interfaces import IStorage
from nixery.model.artifact import EMPTY_DIGEST
from nixery.model.digest import Digest
from nixery.model.errors import NixeryError
from nixery.model.manifest import MAX_MANIFEST_SIZE, Manifest, parse_manifest
from nixery.model.request_errors import BlobUnknown, ManifestUnknown
from nixery.reactor import IReactor, in_thread


@attrs.frozen
class _Removed:
    """An image that was removed.

    :param blobs: that it had, its manifest not among them; of an index, its manifests and theirs.
    :param since: when, in seconds since the epoch.
    """

    blobs: tuple[Digest, ...]
    since: float


class Removals:
    """Removes images."""

    _log = Logger()

    def __init__(
        self,
        reactor: IReactor,
        storage: IStorage,
        cache: Cache,
        images: KnownImages,
        grace: float,
        attached: Callable[[Digest], Awaitable[Collection[str]]] = nothing_attached,
        now: Callable[[], float] = time.time,
    ) -> None:
        """
        :param grace: seconds for which the blobs of an image stay after it was removed.
        :param attached: the hexadecimal digits of the digests of all that is attached to an image.
        :param now: seconds since the epoch.
        """
        self._reactor = reactor
        self._storage = storage
        self._cache = cache
        self._images = images
        self._grace = grace
        self._attached = attached
        self._now = now
        self._removing: Coalescer[Digest, None] = Coalescer()

    async def remove(self, digest: Digest) -> None:
        """Remove an image; with an index, its images too. Who asks at the same time gets the same
        answer.

        :raises ManifestUnknown: if there is none of that digest.
        """
        await self._removing.join(digest, lambda: self._remove(digest))

    async def _remove(self, digest: Digest) -> None:
        if await self._images.by_digest(digest) is None:
            raise ManifestUnknown(str(digest))
        manifest, key = await self._manifest(digest), f"removed/{digest.hex}"
        attached = {*map(Digest, await self._attached(digest))} - {EMPTY_DIGEST}
        own = [] if manifest is None else [part.digest for part in manifest.parts[1:]]
        # Another instance may have removed it a moment ago, and know more of it.
        noted = await self._cache.removed(digest)
        if blobs := dict.fromkeys([*noted, *own, *sorted(attached)]):
            removed = {"digests": list(map(str, blobs)), "removed": self._now()}
            await self._cache.write(key, removed)
        await self._storage.drop([digest], used=True)
        await self._cache.forget(digest)
        self._images.forget([str(digest)])
        self._log.info("removed {digest}", digest=str(digest))
        if manifest is not None and manifest.is_index:
            for child in manifest.blobs:
                if not await self._needed([child.digest]):
                    with suppress(ManifestUnknown):  # it went by itself meanwhile
                        await self.remove(child.digest)

    async def _manifest(self, digest: Digest) -> Manifest | None:
        """The manifest of an image, or of an index whose images may be lost; none if it is lost:
        what is left of the image goes as well."""
        try:
            return await self._cache.manifest_of(digest)
        except ManifestUnknown:
            with suppress(BlobUnknown):
                return parse_manifest(await self._storage.read_blob(digest, MAX_MANIFEST_SIZE))
            return None

    async def work_off(self) -> None:
        """Drop the blobs of images that were removed a while ago; what fails is tried again."""
        try:
            async for key in self._storage.list_records("removed/"):
                await self._drop(key)
        except NixeryError as error:
            text = "blobs of images that were removed are still there: {error}"
            self._log.warn(text, error=str(error))

    async def _drop(self, key: str) -> None:
        removed = await self._cache.read(key, _removed, fresh=True)
        if removed is not None and not await self._is_made_anew(key.partition("/")[2]):
            if self._now() < removed.since + self._grace or not self._images.complete:
                return
            needed = await self._needed(removed.blobs)
            # Those of an index are images, which may have been made anew by their own names.
            unneeded = [
                blob
                for blob in removed.blobs
                if blob not in needed and str(blob) not in self._images
            ]
            if await self._storage.drop(unneeded):
                return  # somebody loads them even now
        await self._storage.delete_record(key)

    async def _is_made_anew(self, digits: str) -> bool:
        """Whether an image that was removed is there again, made here or by another instance: then
        it has all of its blobs."""
        if f"sha256:{digits}" in self._images:
            return True
        return await self._cache.read(f"provenance/{digits}", bool, fresh=True) is not None

    async def _needed(self, blobs: Sequence[Digest]) -> set[Digest]:
        """Those of some blobs that images have which are stored."""
        return await in_thread(self._reactor, self._images.needed, blobs)


def _removed(record: dict[str, Any]) -> _Removed:
    return _Removed(tuple(map(Digest.parse, record["digests"])), float(record["removed"]))
