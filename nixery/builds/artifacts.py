"""Artifacts of images: documents and signatures, made when they are first asked for.

They are stored as blobs. A record of the image lists them: it goes with the image, and they with
it. What is lost of them is made anew when it is asked for, the same bytes as before.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import attrs
from twisted.internet.defer import DeferredSemaphore

from nixery.attest.attaching import INDEX, Attached, attach
from nixery.attest.document import Document
from nixery.attest.signing_keys import SigningKey
from nixery.builds.cache import Cache
from nixery.builds.layers import gather
from nixery.builds.patient_lease import patient_lease
from nixery.coalesce import Coalescer
from nixery.interfaces import IStorage
from nixery.model.artifact import referrers_index
from nixery.model.contents import Contents
from nixery.model.digest import Digest
from nixery.model.image import AMD64, parse_image
from nixery.model.manifest import MAX_MANIFEST_SIZE, Descriptor, Manifest, parse_manifest
from nixery.model.request_errors import BlobUnknown, ManifestUnknown
from nixery.model.source import canonical_sha256
from nixery.model.tags import LATEST
from nixery.reactor import IReactor, in_thread
from nixery.recent import Recent

FORMAT_VERSION = 1
"""Part of what tells whether artifacts are those that would be made now."""
AGE = 600.0
"""Seconds after which a list is read again: another instance may have added something."""
_REMEMBERED = 256
_AT_ONCE = 2  # images whose artifacts are made
_NOBODY = "nixery"
"""The repository that a signature names where neither host nor name is known."""

DocumentsOf = Callable[[Contents, Descriptor], Sequence[Document]]


@attrs.frozen
class AttachedListing:
    """All that is attached to an image, and stored.

    :param tags: what follows the digest in a tag → the manifest or index that is meant.
    :param blobs: all blobs of it: the hexadecimal digits of their digests → bytes.
    """

    tags: Mapping[str, Manifest]
    blobs: Mapping[str, int] = attrs.Factory(dict)

    @property
    def index(self) -> Manifest:
        """The index of the artifacts that refer to the image."""
        return self.tags[INDEX]


NOTHING = AttachedListing({INDEX: referrers_index([])})
"""What is attached to what is no image of this registry."""


@attrs.frozen
class _Record:
    """A listing as it is recorded.

    :param made: what the artifacts depend on besides the image: see :meth:`Artifacts._basis`.
    :param tags: as in a listing, but for the digests alone.
    :param added: documents that can't be made anew.
    """

    made: str
    tags: Mapping[str, Digest]
    blobs: Mapping[str, int]
    added: Sequence[Document]

    def document(self, subject: Digest) -> dict[str, Any]:
        """As it is written."""
        return {
            "digest": str(subject),
            "made": self.made,
            "tags": {suffix: str(digest) for suffix, digest in self.tags.items()},
            "blobs": dict(self.blobs),
            "added": [
                {**attrs.asdict(each), "content": each.content.decode("utf-8")}
                for each in self.added
            ],
        }

    @classmethod
    def parse(cls, record: Mapping[str, Any]) -> "_Record":
        """Read what was written; for errors see :meth:`Cache.read`."""
        return cls(
            record["made"],
            {suffix: Digest.parse(text) for suffix, text in record["tags"].items()},
            {Digest(hex).hex: int(size) for hex, size in record["blobs"].items()},
            [
                Document(**{**each, "content": each["content"].encode("utf-8")})
                for each in record["added"]
            ],
        )


class Artifacts:
    """The artifacts of all images; those that were asked for last are in memory."""

    def __init__(
        self,
        reactor: IReactor,
        storage: IStorage,
        cache: Cache,
        keys: Sequence[SigningKey] = (),
        host: str = "",
        documents: DocumentsOf = lambda contents, subject: (),
    ) -> None:
        """
        :param keys: that images are signed with, by each of them.
        :param host: the registry that signatures name; empty for none.
        :param documents: makes the documents about an image; may take long, in a thread.
        """
        self._reactor = reactor
        self._storage = storage
        self._cache = cache
        self._keys = keys
        self._host = host
        self._documents = documents
        self._known: Recent[Digest, tuple[int | None, AttachedListing]] = Recent(
            reactor.seconds, _REMEMBERED
        )
        self._finding: Coalescer[Digest, AttachedListing] = Coalescer()
        self._turns = DeferredSemaphore(_AT_ONCE)
        self._additions = 0

    @property
    def public_keys(self) -> str:
        """The public keys of the signatures, in PEM, one after the other."""
        return "".join(key.public for key in self._keys)

    def current(self, subject: Digest) -> AttachedListing | None:
        """What is attached to an image, if that is known to be stored. It costs next to nothing."""
        changes, listing = self._known.get(subject, AGE) or (None, None)
        return listing if changes is not None and changes == self._storage.changes() else None

    async def of(self, subject: Digest) -> AttachedListing:
        """What is attached to an image, which is made if need be.

        :return: :data:`NOTHING` for what is no image of this registry.
        :raises StorageFull: if there is no room for it.
        :raises StorageUnavailable: if the storage fails.
        """
        known = self.current(subject)
        if known is None:
            return await self._finding.join(subject, lambda: self._find(subject))
        await self._storage.use([Digest(hex) for hex in known.blobs])
        return known

    async def blobs_of(self, subject: Digest) -> Collection[str]:
        """The hexadecimal digits of the digests of all that is attached to an image already."""
        known = self.current(subject)
        if known is None:
            record = await self._cache.read(_key(subject), _Record.parse)
            return record.blobs if record is not None else ()
        return known.blobs

    async def add(self, subject: Digest, document: Document) -> None:
        """Attach a document that can't be made anew, in the place of an earlier one of its type.

        :raises ManifestUnknown: if there is no such image.
        """
        manifest = await self._cache.stored(subject)
        await self._make(manifest, document)
        self._known.forget(subject)
        self._additions += 1

    async def stop(self) -> None:
        """Make nothing more."""
        await self._finding.stop()

    async def _find(self, subject: Digest) -> AttachedListing:
        changes, additions = self._storage.changes(), self._additions
        try:
            manifest = await self._cache.stored(subject)
        except ManifestUnknown:
            return NOTHING
        # Artifacts are manifests as well, and have none of their own.
        if await self._cache.provenance(subject) is None:
            return NOTHING
        contents = await self._cache.contents(subject)
        listing = await self._stored(subject, self._basis(contents))
        listing = listing or await self._make(manifest)
        if additions == self._additions:  # it may lack what was added meanwhile
            self._known.put(subject, (changes, listing))
        return listing

    def _basis(self, contents: Contents | None) -> str:
        """Stands for all that artifacts depend on besides the manifest."""
        keys = [key.hint for key in self._keys]
        told = contents is not None
        return canonical_sha256([FORMAT_VERSION, self._host, keys, told])

    async def _stored(
        self, subject: Digest, basis: str, fresh: bool = False
    ) -> AttachedListing | None:
        """The listing that is recorded, if it is current and all of it is there."""
        record = await self._cache.read(_key(subject), _Record.parse, fresh)
        if record is None or record.made != basis:
            return None
        blobs = [Descriptor("", Digest(hex), size) for hex, size in record.blobs.items()]
        if await self._storage.missing_blobs(blobs):
            return None
        try:
            tags = {suffix: await self._manifest(digest) for suffix, digest in record.tags.items()}
        except BlobUnknown:
            return None
        return AttachedListing(tags, record.blobs)

    async def _manifest(self, digest: Digest) -> Manifest:
        manifest = parse_manifest(await self._storage.read_blob(digest, MAX_MANIFEST_SIZE))
        if manifest is None:
            raise BlobUnknown(str(digest))
        return manifest

    async def _make(self, manifest: Manifest, document: Document | None = None) -> AttachedListing:
        """Make all that is attached to an image, unless another instance has just done so.

        :param document: is added to it.
        """
        subject = manifest.digest
        async with patient_lease(self._reactor, self._storage, _key(subject)):
            await self._turns.acquire()
            try:
                contents = await self._cache.contents(subject)
                basis = self._basis(contents)
                if document is None and (known := await self._stored(subject, basis, fresh=True)):
                    return known
                return await self._store(manifest, contents, basis, document)
            finally:
                self._turns.release()

    async def _store(
        self, manifest: Manifest, contents: Contents | None, basis: str, document: Document | None
    ) -> AttachedListing:
        subject = manifest.parts[0]
        record = await self._cache.read(_key(subject.digest), _Record.parse, fresh=True)
        added = list(record.added) if record is not None else []
        if document is not None:
            others = [e for e in added if e.predicate_type != document.predicate_type]
            added = [*others, document]
        names = names_of(await self._cache.read(f"provenance/{subject.digest.hex}", _name) or "")
        references = ["/".join(filter(None, (self._host, name))) or _NOBODY for name in names]
        making = in_thread(self._reactor, self._attach, subject, references, contents, added)
        attached = await making
        if not attached.blobs:
            return NOTHING
        await gather(map(self._storage.write_blob, attached.blobs))
        blobs = {Digest.of(content).hex: len(content) for content in attached.blobs}
        digests = {suffix: each.digest for suffix, each in attached.tags.items()}
        record = _Record(basis, digests, blobs, added)
        await self._cache.write(_key(subject.digest), record.document(subject.digest))
        return AttachedListing(attached.tags, blobs)

    def _attach(
        self,
        subject: Descriptor,
        references: Sequence[str],
        contents: Contents | None,
        added: Sequence[Document],
    ) -> Attached:
        """Make the documents about an image, and attach them. Takes long: for threads."""
        made = () if contents is None else self._documents(contents, subject)
        return attach(subject, references, [*made, *added], self._keys)


def names_of(name: str) -> list[str]:
    """The names that an image is pulled by: its own, and that of an index that it may be in.

    :param name: the shortest one that asks for it alone; empty if that is not known.
    """
    index = attrs.evolve(parse_image(name, LATEST), system=AMD64).name if name else ""
    return list(dict.fromkeys([name, index]))


def _name(record: Mapping[str, Any]) -> str:
    """The name in the record of an image: not what a package may have its manifest say, from which
    the records of older images are, without tags."""
    return str(record["name"]) if record.get("tags") else ""


async def nothing_attached(subject: Digest) -> Collection[str]:
    """Where there are no artifacts: see :meth:`Artifacts.blobs_of`."""
    return ()


def _key(subject: Digest) -> str:
    return f"referrers/{subject.hex}"
