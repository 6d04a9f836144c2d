"""The images that were served by each name, so that digests are served only with a right to them.

Where not every client may pull everything, knowing a digest must not be enough to get it by another
image's name. The storage has a record for each image name: the manifests served for it, their tags,
and prefixes of their blobs' digests. It is written when an image is pulled by a tag: so all
instances have it, and it survives restarts. Images pulled before there were such records are
recorded at their next pull by tag.
"""

from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import attrs
from attrs.validators import deep_iterable, instance_of
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from nixery.builds.artifacts import nothing_attached
from nixery.builds.cache import Cache
from nixery.builds.patient_lease import patient_lease
from nixery.coalesce import Coalescer
from nixery.interfaces import ILeases
from nixery.model.digest import Digest
from nixery.model.errors import NixeryError
from nixery.model.image import Image
from nixery.model.manifest import Manifest
from nixery.model.request_errors import ManifestUnknown
from nixery.model.source import canonical_sha256
from nixery.recent import Recent

MOST_MANIFESTS = 500
"""Manifests that are recorded for one name: the last ones served for a new tag."""
MOST_TAGS = 50
"""Tags that are recorded for one manifest."""
MEMORY = 8_000_000
"""Bytes of records in memory."""
AGE = 3600.0
"""Seconds after which a record is read again: another instance may have changed it."""
_PREFIX = 8  # hexadecimal digits: enough to rarely read a manifest in vain


def _tags(tags: Iterable[str]) -> tuple[str, ...]:
    return tuple(tags)


@attrs.frozen
class ServedManifest:
    """A manifest that was served for a name.

    :param digest: the manifest's.
    :param tags: that it was served for, the latest last.
    :param blobs: prefixes of the digests of all that it leads to, one after the other, and behind
        them of those of what is attached to it.
    :raises TypeError: if one of them is of another type.
    """

    digest: str = attrs.field(validator=instance_of(str))
    tags: tuple[str, ...] = attrs.field(converter=_tags, validator=deep_iterable(instance_of(str)))
    blobs: str = attrs.field(validator=instance_of(str))

    @classmethod
    def of(cls, manifest: Manifest, tag: str) -> "ServedManifest":
        """A manifest that is served for a tag."""
        blobs = "".join(blob.digest.hex[:_PREFIX] for blob in manifest.parts[1:])
        return cls(str(manifest.digest), (tag,), blobs)

    def may_hold(self, digest: Digest) -> bool:
        """Whether a digest may be that of one of the blobs; False is certain."""
        return digest.hex[:_PREFIX] in self.blobs


Images = tuple[ServedManifest, ...]
"""The manifests served for a name, the latest last."""


def merged(images: Images, more: Images) -> Images:
    """Merge the manifests of one name; what ``more`` adds counts as later."""
    known = {each.digest: each for each in images}
    for each in more:
        before = known.get(each.digest)
        if before is not None:
            if set(each.tags) <= set(before.tags) and before.blobs.startswith(each.blobs):
                continue
            tags = [tag for tag in before.tags if tag not in each.tags]
            # A manifest is noted with what is attached to it, or without, each time it is pulled.
            blobs = before.blobs if before.blobs.startswith(each.blobs) else each.blobs
            known.pop(each.digest)
            each = attrs.evolve(each, tags=(*tags, *each.tags)[-MOST_TAGS:], blobs=blobs)
        known[each.digest] = each
    return tuple(known.values())[-MOST_MANIFESTS:]


class ServedImages:
    """The images that were served, by name; the last used records are in memory."""

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        leases: ILeases,
        cache: Cache,
        attached: Callable[[Digest], Awaitable[Collection[str]]] = nothing_attached,
    ) -> None:
        """
        :param attached: the hexadecimal digits of the digests of all that is attached to a
            manifest.
        """
        self._clock = clock
        self._leases = leases
        self._cache = cache
        self._attached = attached
        self._known: Recent[str, Images] = Recent(clock.seconds, MEMORY, _weight)
        self._noting: Coalescer[tuple[str, str, str], None] = Coalescer()

    async def note(self, image: Image, manifest: Manifest) -> None:
        """Record that a manifest is about to be served for an image, by its tag; at least in memory
        if the storage fails."""
        known = self._known.get(image.name, AGE) or ()
        digest = str(manifest.digest)
        if any(each.digest == digest and image.tag in each.tags for each in known):
            return
        served = ServedManifest.of(manifest, image.tag)
        key = (image.name, image.tag, digest)
        await self._noting.join(key, lambda: self._note(image.name, served))

    async def note_attached(self, name: str, subject: Digest) -> None:
        """Record what is attached to a manifest that :meth:`holds` for a name: whoever may pull the
        manifest by that name may have it, too."""
        for each in self._known.get(name) or ():
            if each.digest != str(subject) and not each.may_hold(subject):
                continue
            with suppress(ManifestUnknown):
                manifest = await self._cache.manifest_of(Digest.parse(each.digest))
                served = attrs.evolve(ServedManifest.of(manifest, ""), tags=())
                for own in _with_children(manifest):
                    prefixes = (hex[:_PREFIX] for hex in sorted(await self._attached(own)))
                    served = attrs.evolve(served, blobs=served.blobs + "".join(prefixes))
                if not each.blobs.startswith(served.blobs):
                    key = (name, served.blobs, each.digest)
                    await self._noting.join(key, partial(self._note, name, served))

    async def holds(self, name: str, digest: Digest, may: Callable[[str], bool]) -> bool:
        """Whether a digest is that of an image served by a name, of one of its blobs, or of what is
        attached to it.

        :param name: as in :attr:`nixery.model.image.Image.name`.
        :param may: whether a tag counts.
        :raises StorageUnavailable: if the storage fails.
        """
        known = self._known.get(name) or ()
        if await self._is_in(known, digest, may):
            return True
        # Another instance may have served it a moment ago: joining an earlier read might miss that.
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
                    # Who has it already may be loading what it names.
                    if digest in await self._cache.removed(Digest.parse(each.digest)):
                        return True
                    continue
                if any(part.digest == digest for part in manifest.parts):
                    return True
                for own in _with_children(manifest):
                    if digest.hex in await self._attached(own):
                        return True
        return False

    async def _note(self, name: str, served: ServedManifest) -> None:
        try:
            stored = await self._stored(name)
            if merged(stored, (served,)) != stored:
                stored = await self._add(name, served)
        except NixeryError as error:
            text = "other instances can't be told that {name} was served: {error}"
            self._log.warn(text, name=name, error=str(error))
            stored = ()
        self._known.put(name, merged(self._with_known(name, stored), (served,)))

    async def _add(self, name: str, served: ServedManifest) -> Images:
        """Add a manifest, and all that is known only in memory, to a name's record.

        What is lost without a lease is added when its image is pulled again.
        """
        async with patient_lease(self._clock, self._leases, _key(name)):
            stored = await self._stored(name)
            images = merged(self._with_known(name, stored), (served,))
            await self._cache.write(_key(name), _record(images))
            return images

    async def _read(self, name: str) -> Images:
        """The current images of a name, from the storage and from memory."""
        images = self._with_known(name, await self._stored(name))
        if images:  # names that were never pulled evict nothing
            self._known.put(name, images)
        return images

    async def _stored(self, name: str) -> Images:
        stored = await self._cache.read(_key(name), _images, fresh=True) or ()
        # An instance of an earlier version may write there still.
        older = await self._cache.read(_older_key(name), _images, fresh=True) or ()
        return merged(older, stored)

    def _with_known(self, name: str, images: Images) -> Images:
        """Add what is known in memory, as older: so it is dropped first."""
        return merged(self._known.get(name) or (), images)


def _with_children(manifest: Manifest) -> list[Digest]:
    """The digests of a manifest and, if it is an index, of its manifests."""
    return [each.digest for each in (manifest, *manifest.children)]


def _key(name: str) -> str:
    return f"served/{canonical_sha256(name)}"


def _older_key(name: str) -> str:
    """The key of a record that an earlier version wrote; it stays until its images go."""
    return f"manifests/{canonical_sha256({'served': name})}"


def _record(images: Images) -> dict[str, Any]:
    # "digests", for the search for records whose blobs are gone.
    digests = [each.digest for each in images]
    return {"digests": digests, "served": [attrs.asdict(each) for each in images]}


def _images(record: dict[str, Any]) -> Images:
    return tuple(ServedManifest(**each) for each in record["served"])


def _weight(images: Sequence[ServedManifest]) -> int:
    """Roughly the bytes of memory."""
    return sum(200 + len(each.blobs) + 60 * len(each.tags) for each in images) + 600
