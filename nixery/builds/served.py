"""Which images were served by which names, so that a digest is served to who may pull one of them.

Where not everybody may pull everything, whoever knows a digest must not get it by another image's
name. The storage has a record of each image name: the manifests that were served for it, the tags
that they were served for, and the beginnings of their blobs' digests. It is written when an image
is pulled by a tag, so it is there for every instance, and after a restart. A storage from before
there were such records learns at the next pull by tag.
"""

from collections.abc import Callable, Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from nixery.builds.cache import Cache
from nixery.coalesce import Coalescer
from nixery.interfaces import ILease, ILeases
from nixery.model.digest import Digest
from nixery.model.errors import ManifestUnknown, NixeryError
from nixery.model.image import Image
from nixery.model.manifest import Manifest
from nixery.model.source import canonical_sha256
from nixery.recent import Recent

MOST_MANIFESTS = 500
"""Manifests that are known of one name: those that were served for a new tag last."""
MOST_TAGS = 50
"""Tags that are known of one manifest."""
MEMORY = 8_000_000
"""Bytes of records that are kept in memory."""
AGE = 3600.0
"""Seconds after which a record is read again: another instance may have written it."""
PATIENCE = 5.0
"""Seconds to wait for another instance that writes the same record."""
_PREFIX = 8  # hexadecimal digits: enough to look into few manifests in vain


@attrs.frozen
class Served:
    """A manifest that was served for a name.

    :param digest: the manifest's.
    :param tags: that it was served for, the latest last.
    :param blobs: the first digits of the digests of its blobs, one after the other.
    """

    digest: str
    tags: tuple[str, ...]
    blobs: str

    @classmethod
    def of(cls, manifest: Manifest, tag: str) -> "Served":
        """What is noted when a manifest is served for a tag."""
        blobs = "".join(blob.digest.hex[:_PREFIX] for blob in manifest.blobs)
        return cls(str(manifest.digest), (tag,), blobs)

    @classmethod
    def read(cls, document: Any) -> "Served":
        """Read what :meth:`document` made.

        :raises TypeError: if it is something else; likewise ``KeyError``.
        """
        digest, tags, blobs = document["digest"], document["tags"], document["blobs"]
        if not all(isinstance(each, str) for each in (digest, blobs, *tags)):
            raise TypeError("no manifest that was served")
        return cls(digest, tuple(tags), blobs)

    def document(self) -> dict[str, Any]:
        """As it stands in a record."""
        return {"digest": self.digest, "tags": list(self.tags), "blobs": self.blobs}

    def may_hold(self, digest: Digest) -> bool:
        """Whether a digest may be one of the blobs; what is denied is certain."""
        return digest.hex[:_PREFIX] in self.blobs


Images = tuple[Served, ...]
"""What is known of a name: the latest last."""


def merged(images: Images, more: Images) -> Images:
    """What is known of a name, with what else is: what that adds counts as later."""
    known = {each.digest: each for each in images}
    for each in more:
        before = known.get(each.digest)
        if before is not None and set(each.tags) <= set(before.tags):
            continue
        tags = [tag for tag in before.tags if tag not in each.tags] if before is not None else []
        known.pop(each.digest, None)
        known[each.digest] = attrs.evolve(each, tags=(*tags, *each.tags)[-MOST_TAGS:])
    return tuple(known.values())[-MOST_MANIFESTS:]


class ServedImages:
    """Knows the images that were served, by name; what was asked for last is in memory."""

    _log = Logger()

    def __init__(self, clock: IReactorTime, leases: ILeases, cache: Cache) -> None:
        """
        :param cache: has the records and the manifests.
        """
        self._clock = clock
        self._leases = leases
        self._cache = cache
        self._known: Recent[str, Images] = Recent(clock.seconds, MEMORY, _weight)
        self._noting: Coalescer[tuple[str, str, str], None] = Coalescer()

    async def note(self, image: Image, manifest: Manifest) -> None:
        """Take note that a manifest is about to be served for an image, by its tag.

        If that can't be written, this instance knows it all the same.
        """
        known = self._known.get(image.name, AGE) or ()
        digest = str(manifest.digest)
        if any(each.digest == digest and image.tag in each.tags for each in known):
            return
        served = Served.of(manifest, image.tag)
        key = (image.name, image.tag, digest)
        await self._noting.join(key, lambda: self._note(image.name, served))

    async def holds(self, name: str, digest: Digest, may: Callable[[str], bool]) -> bool:
        """Whether a digest is that of an image of a name, or of a blob of one.

        :param name: an image's, as :attr:`nixery.model.image.Image.name` has it.
        :param may: whether a tag counts.
        :raises StorageUnavailable: if that can't be found out.
        """
        known = self._known.get(name) or ()
        if await self._is_in(known, digest, may):
            return True
        # Another instance may have served it a moment ago: a read that has begun may miss it.
        found = await self._read(name)
        return found != known and await self._is_in(found, digest, may)

    async def _is_in(self, images: Images, digest: Digest, may: Callable[[str], bool]) -> bool:
        for each in reversed(images):
            if each.digest == str(digest):
                if any(map(may, each.tags)):
                    return True
            elif each.may_hold(digest) and any(map(may, each.tags)):
                try:
                    manifest = await self._cache.manifest_of(Digest.parse(each.digest))
                except ManifestUnknown:
                    continue
                if any(blob.digest == digest for blob in manifest.blobs):
                    return True
        return False

    async def _note(self, name: str, served: Served) -> None:
        try:
            stored = await self._stored(name)
            if merged(stored, (served,)) != stored:
                stored = await self._add(name, served)
        except NixeryError as error:
            text = "that {name} was served can't be noted for other instances: {error}"
            self._log.warn(text, name=name, error=str(error))
            stored = ()
        self._known.put(name, merged(self._with_known(name, stored), (served,)))

    async def _add(self, name: str, served: Served) -> Images:
        """Write a name's record with what else was served, and with what is known here alone."""
        lease = await self._lease(name)
        try:
            stored = await self._stored(name)
            images = merged(self._with_known(name, stored), (served,))
            await self._cache.write(_key(name), _record(images))
            return images
        finally:
            if lease is not None:
                await lease.release()

    async def _read(self, name: str) -> Images:
        """What is known of a name by now, in the storage or here."""
        images = self._with_known(name, await self._stored(name))
        if images:  # names that nobody has pulled push nothing else out of memory
            self._known.put(name, images)
        return images

    async def _stored(self, name: str) -> Images:
        stored = await self._cache.read(_key(name), _images, fresh=True)
        if stored is None:
            stored = await self._cache.read(_older_key(name), _images, fresh=True)
        return stored or ()

    def _with_known(self, name: str, images: Images) -> Images:
        """What is known here counts as older: it is the first to go if it becomes too much."""
        return merged(self._known.get(name) or (), images)

    async def _lease(self, name: str) -> ILease | None:
        """Keep other instances from writing a name's record meanwhile, if they let us.

        It is no guard: of two that write at once, one may be forgotten until it is pulled again.
        """
        key = canonical_sha256({"lease of": _key(name)})
        waiting = Deferred.fromCoroutine(self._leases.lease(key))
        try:
            return await waiting.addTimeout(PATIENCE, self._clock)
        except TimeoutError:
            return None


def _key(name: str) -> str:
    return f"served/{canonical_sha256(name)}"


def _older_key(name: str) -> str:
    """The key of a record that an earlier version wrote; it stays until its images go."""
    return f"manifests/{canonical_sha256({'served': name})}"


def _record(images: Images) -> dict[str, Any]:
    # "digests", for whoever looks for records of blobs that are no more.
    return {
        "digests": [each.digest for each in images],
        "served": [each.document() for each in images],
    }


def _images(record: dict[str, Any]) -> Images:
    return tuple(Served.read(each) for each in record["served"])


def _weight(images: Sequence[Served]) -> int:
    """Bytes, roughly."""
    return sum(200 + len(each.blobs) + 60 * len(each.tags) for each in images) + 600
