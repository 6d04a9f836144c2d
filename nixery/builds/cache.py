"""Records of images and layers that were made: image key → manifest, layer key → layer."""

import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import attrs
from twisted.internet.interfaces import IReactorThreads

from nixery.interfaces import IStorage, Provenance
from nixery.model.contents import Contents, unpack_contents
from nixery.model.digest import Digest
from nixery.model.image import Image
from nixery.model.image_summary import ImageSummary, summary_of
from nixery.model.manifest import (
    MAX_MANIFEST_SIZE,
    Descriptor,
    Layer,
    Manifest,
    parse_manifest,
)
from nixery.model.reading import Reading
from nixery.model.request_errors import BlobUnknown, DigestInvalid, ManifestUnknown
from nixery.model.source import canonical_sha256
from nixery.reactor import in_thread
from nixery.recent import Recent

_REMEMBERED = 512
_PATHS = 20_000
"""Store paths of the contents that are in memory together."""
_LONG = 30_000
"""Characters of packed contents that are unpacked in a thread: some milliseconds of work."""

V = TypeVar("V")


class Cache:
    """Records in the storage, with the latest of them in memory.

    A record carries a digest of itself: one that was cut or altered counts as missing.
    """

    def __init__(
        self,
        storage: IStorage,
        remembered: int = _REMEMBERED,
        reactor: IReactorThreads | None = None,
    ) -> None:
        """
        :param remembered: manifests that are kept in memory.
        :param reactor: its threads read long records; without it, they are read at once.
        """
        self.lookups: Counter[str] = Counter()
        """How often a manifest was found in ``memory``, in the ``storage``, or was ``missing``."""
        self.on_made: Callable[[ImageSummary], object] = lambda summary: None
        """Is told of each image that is made here."""
        self._storage = storage
        self._reactor = reactor
        self._by_key: Recent[str, Digest] = Recent(time.monotonic, remembered)
        self._by_digest: Recent[Digest, Manifest] = Recent(time.monotonic, remembered)
        self._provenance: Recent[Digest, Provenance] = Recent(time.monotonic, remembered)
        self._contents: Recent[Digest, Contents] = Recent(time.monotonic, _PATHS, _weight)

    def readings(self) -> list[Reading]:
        """The metrics of the cache."""
        return [
            Reading(
                "nixery_manifest_lookups",
                "Manifests that were looked for by image key, and where they were found.",
                lambda: self.lookups,
                "level",
                total=True,
            )
        ]

    def changes(self) -> int | None:
        """Another number as soon as a manifest may no longer be whole: see
        :meth:`nixery.interfaces.IBlobs.changes`."""
        return self._storage.changes()

    async def manifest(self, image_key: str, again: bool = False) -> Manifest | None:
        """The manifest of an image key, if all that it names is stored; it is looked every time.

        :param again: whether this was looked for already: then it is not counted.
        """
        digest, level = self._by_key.get(image_key), "memory"
        if digest is None:
            digest, level = await self.read(f"manifests/{image_key}", _digest), "storage"
        manifest = await self.whole(digest) if digest is not None else None
        if not again:
            self.lookups[level if manifest is not None else "missing"] += 1
        if manifest is not None and digest is not None:
            self._by_key.put(image_key, digest)
        return manifest

    async def whole(self, digest: Digest) -> Manifest | None:
        """A manifest, if all that it leads to is stored."""
        try:
            manifest = await self.manifest_of(digest)
        except ManifestUnknown:
            return None
        return None if await self._storage.missing_blobs(manifest.parts) else manifest

    async def stored(self, digest: Digest) -> Manifest:
        """A manifest whose blobs are all stored.

        :raises ManifestUnknown: if there is none of that digest.
        """
        manifest = await self.whole(digest)
        if manifest is None:
            raise ManifestUnknown(str(digest))
        return manifest

    async def manifest_of(self, digest: Digest) -> Manifest:
        """A stored manifest; an index has its manifests with it.

        :raises ManifestUnknown: if there is none of that digest, or one of an index is missing.
        """
        manifest = self._by_digest.get(digest)
        if manifest is not None:
            return manifest
        try:
            content = await self._storage.read_blob(digest, MAX_MANIFEST_SIZE)
        except BlobUnknown:
            raise ManifestUnknown(str(digest)) from None
        manifest = parse_manifest(content)
        if manifest is None:
            raise ManifestUnknown(str(digest))
        if manifest.is_index:
            children = [await self.manifest_of(blob.digest) for blob in manifest.blobs]
            manifest = attrs.evolve(manifest, children=tuple(children))
        self._by_digest.put(digest, manifest)
        return manifest

    async def provenance(self, digest: Digest) -> Provenance | None:
        """The provenance of a manifest's image, from when it was last asked for, or made."""
        known = self._provenance.get(digest)
        if known is None:
            known = await self.read(f"provenance/{digest.hex}", _provenance)
        if known is None:
            known = await self.read(_older_key(digest), _provenance)
        if known is not None:
            self._provenance.put(digest, known)
        return known

    def noted_provenance(self, digest: Digest) -> Provenance | None:
        """The provenance of a manifest's image, if it is in memory."""
        return self._provenance.get(digest)

    def note_again(self, digest: Digest, provenance: Provenance) -> None:
        """Count a manifest that was known all along, and is served for a provenance again."""
        self.lookups["memory"] += 1
        self.note_provenance(digest, provenance)

    def note_provenance(self, digest: Digest, provenance: Provenance) -> None:
        """Take note of what a manifest was just served for."""
        self._provenance.put(digest, provenance)

    async def contents(self, digest: Digest) -> Contents | None:
        """The contents of a manifest's image; none if an older version made it."""
        known = self._contents.get(digest)
        if known is None:
            packed = await self.read(f"contents/{digest.hex}", _packed)
            known = await self._unpacked(packed) if packed is not None else None
            if known is not None:
                self._contents.put(digest, known)
        return known

    async def _unpacked(self, packed: str) -> Contents | None:
        try:
            if self._reactor is None or len(packed) < _LONG:
                return unpack_contents(packed)
            return await in_thread(self._reactor, unpack_contents, packed)
        except ValueError:
            return None

    async def removed(self, digest: Digest) -> Sequence[Digest]:
        """All that a manifest led to whose image was removed a moment ago; nothing for others."""
        return await self.read(f"removed/{digest.hex}", _digests, fresh=True) or ()

    async def verified(self, digest: Digest) -> dict[str, Any] | None:
        """What came of the last verification of a manifest's image, as
        :meth:`nixery.model.reproduction.Reproduction.document` has it."""
        return await self.read(f"verified/{digest.hex}", lambda record: record["result"])

    async def remember_manifest(
        self,
        image_key: str | None,
        manifest: Manifest,
        provenance: Provenance,
        contents: str = "",
        image: Image | None = None,
    ) -> None:
        """Store a manifest whose blobs are stored, and know it by the image key from then on.

        :param image_key: none for a manifest that is known by its digest alone.
        :param contents: of the image, by :func:`nixery.model.contents.pack_contents`. What is known
            already stays: documents that are made of it are the same at any time.
        :param image: what it was made for; without it, its summary has neither name nor tag.
        """
        await self._storage.write_blob(manifest.content)
        source, revision = provenance.source, provenance.revision
        summary = summary_of(manifest, image, source, revision, made=time.time())
        # With its digest, as all records: what is of a blob that is no more can be told.
        await self.write(f"provenance/{manifest.digest.hex}", summary.document())
        if contents and await self.contents(manifest.digest) is None:
            record = {"contents": contents, "digest": str(manifest.digest)}
            await self.write(f"contents/{manifest.digest.hex}", record)
        self.on_made(summary)
        self._by_digest.put(manifest.digest, manifest)
        if image_key is not None:
            await self.remember_key(image_key, manifest.digest)

    async def forget(self, digest: Digest) -> None:
        """Forget what is remembered of an image whose manifest is no more."""
        for each in (self._by_digest, self._provenance, self._contents):
            each.forget(digest)
        for kind in ("provenance", "contents", "referrers", "verified"):
            await self._storage.delete_record(f"{kind}/{digest.hex}")

    async def remember_key(self, image_key: str, digest: Digest) -> None:
        """Know a manifest that is stored by an image key from then on."""
        await self.write(f"manifests/{image_key}", {"digest": str(digest)})
        self._by_key.put(image_key, digest)

    async def layer(self, layer_key: str) -> Layer | None:
        """The layer of a layer key, if its blob is stored."""
        layer = await self.read(f"builds/{layer_key}", _layer)
        if layer is None or await self._storage.missing_blobs([layer.descriptor]):
            return None
        return layer

    async def remember_layer(self, layer_key: str, layer: Layer) -> None:
        """Know a layer whose blob is stored by its key from then on."""
        record = {
            **layer.descriptor.document(),
            "diffId": str(layer.diff_id),
            "paths": list(layer.paths),
        }
        # Lost, it costs one more packing, which gives the same blob.
        await self.write(f"builds/{layer_key}", record, lasting=False)

    async def write(self, key: str, record: dict[str, Any], lasting: bool = True) -> None:
        """Write a record: see :meth:`nixery.interfaces.IRecords.write_record`."""
        document = {"record": record, "sha256": canonical_sha256(record)}
        await self._storage.write_record(key, json.dumps(document).encode("ascii"), lasting)

    async def read(
        self, key: str, parse: Callable[[dict[str, Any]], V], fresh: bool = False
    ) -> V | None:
        """Read a record, if there is a good one.

        :param parse: raises ``ValueError``, ``KeyError`` or ``TypeError`` for what is not good.
        :param fresh: see :meth:`nixery.interfaces.IStorage.read_record`.
        """
        content = await self._storage.read_record(key, fresh)
        if content is None:
            return None
        try:
            document = json.loads(content)
            if document["sha256"] != canonical_sha256(document["record"]):
                return None
            return parse(document["record"])
        except (ValueError, KeyError, TypeError, RecursionError, DigestInvalid):
            return None


def _digest(record: dict[str, Any]) -> Digest:
    return Digest.parse(record["digest"])


def _digests(record: dict[str, Any]) -> Sequence[Digest]:
    return tuple(map(Digest.parse, record["digests"]))


def _older_key(digest: Digest) -> str:
    """The key of a provenance that an earlier version wrote."""
    return f"manifests/{canonical_sha256({'provenance': str(digest)})}"


def _provenance(record: dict[str, Any]) -> Provenance:
    source, revision = record["source"], record["revision"]
    if not isinstance(source, str) or not isinstance(revision, str):
        raise TypeError("no provenance")
    return Provenance(source, revision)


def _packed(record: dict[str, Any]) -> str:
    return str(record["contents"])


def _weight(contents: Contents) -> int:
    return len(contents.paths)


def _layer(record: dict[str, Any]) -> Layer:
    descriptor = Descriptor(record["mediaType"], Digest.parse(record["digest"]), record["size"])
    return Layer(descriptor, Digest.parse(record["diffId"]), tuple(record["paths"]))
