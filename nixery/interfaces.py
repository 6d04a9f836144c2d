"""Interfaces between layers."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import attrs
from twisted.internet.interfaces import IConsumer
from zope.interface import Attribute, Interface

from nixery.model.closure import Realisation
from nixery.model.digest import Digest
from nixery.model.errors import NixeryError
from nixery.model.events import Emit
from nixery.model.image import Image
from nixery.model.manifest import INDEX_TYPE, Descriptor, Manifest
from nixery.model.package_set import Package
from nixery.model.registration import ValidPath
from nixery.model.source import PinnedSource
from nixery.model.suggestions import Suggestion


@attrs.frozen
class Value:
    """A blob's bytes, verified."""

    content: bytes


@attrs.frozen
class BlobFile:
    """A blob as a file of this machine, verified.

    :param size: bytes.
    :param modified: when it was written last, in nanoseconds since the epoch: what is written
        later is not verified.
    :param changed: when anything of it changed last; unlike the former, nobody can set it.
    """

    path: str
    size: int
    modified: int
    changed: int


@attrs.frozen
class Redirect:
    """A blob that clients load from another place, by GET.

    :param size: bytes: what clients ask by HEAD is answered here.
    """

    url: str
    size: int


@attrs.frozen
class Stream:
    """A blob that is copied from another place while it is sent.

    :param size: bytes.
    :param copy: writes some of its bytes to a consumer, no faster than that takes them:
        ``copy(start, length, consumer)``. Raises ``StorageUnavailable`` if they end too early,
        and ``CancelledError`` if the consumer wants no more.
    """

    size: int
    copy: Callable[[int, int, IConsumer], Awaitable[None]]


Location = Value | BlobFile | Redirect | Stream


class IUpload(Interface):
    """A blob in the making: invisible until it is committed."""

    sink: str = Attribute("A path that the blob's bytes are written to, once, from the start.")
    fault: NixeryError | None = Attribute("Why the sink takes no more, if it was that.")

    async def commit(digest: Digest, size: int) -> None:
        """Make the blob known under its digest.

        Its bytes are safe against a power cut from then on; that it is known is so with the next
        lasting record.

        It is no error if the blob is known already. The upload is over either way.

        :param size: the bytes that were written to the sink; what arrived is checked against it.
        :raises StorageFull: if there was no room.
        :raises StorageUnavailable: if the storage failed, or holds other bytes than were written.
        """

    async def discard() -> None:
        """Forget what was written; harmless after :meth:`commit`."""


class ILease(Interface):
    """The right to make something that no other instance makes meanwhile."""

    async def release() -> None:
        """Give it up; never raises anything but a cancellation."""


class IRecords(Interface):
    """Small records, by keys that say what they are: see :mod:`nixery.storage.keys`.

    Every method may raise ``StorageUnavailable``, and ``ValueError`` for a key of another form.
    """

    async def read_record(key: str, fresh: bool = False) -> bytes | None:
        """A record's bytes, or nothing if there is none.

        :param fresh: whether what another instance wrote a moment ago counts as well.
        """

    async def write_record(key: str, content: bytes, lasting: bool = True) -> None:
        """Write a record whole, over an older one if there is one.

        :param lasting: whether it is safe against a power cut from then on, and so are all blobs
            that were stored before; one that is not may be lost or cut by a power cut.
        :raises StorageFull: if there was no room; the older one is still there then.
        """

    async def delete_record(key: str) -> None:
        """Delete a record if there is one."""

    def list_records(prefix: str) -> AsyncIterator[str]:
        """The keys of records, in no order, without reading these. Of a record that is written or
        deleted meanwhile, the key may be among them or not.

        :param prefix: a kind of records with ``/`` behind it, and the first digits of keys, if any.
        """


class IBlobs(Interface):
    """Blobs, by their digests. Every method may raise ``StorageUnavailable``."""

    async def write_blob(content: bytes) -> Digest:
        """Store a small blob.

        :raises StorageFull: if there was no room.
        """

    async def read_blob(digest: Digest, limit: int) -> bytes:
        """The bytes of a small blob, verified.

        :param limit: a blob of more bytes than that counts as unknown.
        :raises BlobUnknown: if there is no such blob, or only a damaged one, which is dropped.
        """

    async def use(blobs: Sequence[Digest]) -> None:
        """Note that blobs are of use, as those of an image that is being pulled or made are.

        A storage that drops what is of no use keeps them for a while from now on, some minutes
        at least unless the operator wants less. It costs next to nothing; where it can't be noted,
        that is no error.
        """

    async def missing_blobs(blobs: Sequence[Descriptor]) -> list[Digest]:
        """Those of some blobs that are not there in their full size: a cheap look."""

    async def drop(blobs: Sequence[Digest], used: bool = False) -> list[Digest]:
        """Drop blobs that nobody needs any more, if they are there.

        :param used: whether those go too that were of use a moment ago: see :meth:`use`.
        :return: those that stay for that.
        """

    def changes() -> int | None:
        """A number that is another one as soon as any blob may have been lost, cut or altered.

        It costs next to nothing: as long as it stays what it was before a look at blobs, what was
        found stored still is.

        :return: none where nobody tells.
        """

    async def locate(digest: Digest) -> Location:
        """Where a blob's bytes are to be had, after they were verified.

        :raises BlobUnknown: if there is no such blob, or only a damaged one, which is dropped.
        """

    async def receive() -> IUpload:
        """Begin a blob whose digest is not known yet.

        :raises StorageFull: if there is no room.
        """


class ILeases(Interface):
    """Leases, which keep instances from doing the same work at the same time."""

    async def lease(key: str) -> ILease:
        """Wait until nobody else, in whichever instance, holds the lease of a key.

        It saves work, and is no guard: an instance that gives no sign for long loses it.

        :param key: hexadecimal digits.
        :raises StorageUnavailable: if the storage fails.
        """


@attrs.frozen
class Tidied:
    """The outcome of :meth:`IStorage.tidy`.

    :param dropped: blobs that were dropped for others.
    :param size: bytes of all blobs that are left; none where nobody counts them.
    :param blobs: how many are left; none likewise.
    """

    dropped: int = 0
    size: int | None = None
    blobs: int | None = None


class IStorage(IBlobs, IRecords, ILeases):
    """Where images are kept."""

    async def start() -> None:
        """Make the storage ready and clear away what an earlier process left unfinished.

        :raises StorageUnavailable: if it can't be used.
        """

    def stop() -> None:
        """Stop background work."""

    async def tidy() -> Tidied:
        """Do now what is done in the background: drop what is too much, or what nobody finished."""

    async def probe() -> None:
        """Write something, read it again, and leave nothing of it.

        :raises StorageFull: if there is no room.
        :raises StorageUnavailable: if that fails in another way.
        """


class INix(Interface):
    """Nix, as far as an image needs it."""

    async def realise(image: Image, pinned: PinnedSource, emit: Emit) -> Realisation:
        """Find an image's packages in a package set, and build or fetch them with their closure.

        :param emit: is told what happens.
        :raises NixeryError: one of those for packages, evaluation, building, source and Nix.
        """

    async def registered(realisation: Realisation) -> Sequence[ValidPath]:
        """What the store's database says of each store path of a realisation that is not released.

        :raises NixUnavailable: if the store can't tell.
        """

    async def release(realisation: Realisation) -> None:
        """Let the garbage collector have a realisation's store paths."""

    def physical(path: str) -> str:
        """Where the files of a store path lie on this machine."""


@attrs.frozen
class Provenance:
    """What an image was made from, as people are told.

    :param source: the package source's name.
    :param revision: of the package source.
    :param stale: the source could not be asked: this is the last revision that is known of it.
    """

    source: str
    revision: str
    stale: bool = False


@attrs.frozen
class Pull:
    """What a pull of an image gives.

    :param provenance: nothing if it is known no more.
    :param again: says whether the same pull would give the same now; if so, it counts as another
        pull. It costs next to nothing. None where that is not to be known without asking.
    """

    manifest: Manifest
    provenance: Provenance | None
    again: Callable[[], bool] | None = attrs.field(default=None, eq=False)


class IResolver(Interface):
    """The package source's names of revisions."""

    async def resolve(tag: str, client: str = "") -> PinnedSource:
        """The immutable revision that a tag stands for at the moment.

        :param client: who asks: the source is asked for each client in turn.
        :raises UnknownTag: if the source has none of that name.
        :raises CommitNotServed: if no branch or tag that is served reaches that commit.
        :raises TagNotServed: if the operator does not allow it.
        :raises TooManyTags: if the client asks for too many at once.
        :raises SourceUnavailable: if the source can't be asked.
        """

    def current(tag: str) -> PinnedSource | None:
        """The revision that a tag stands for at the moment, if that is known without asking.

        It costs next to nothing, and equals what :meth:`resolve` would answer.
        """

    async def refresh() -> None:
        """Ask the source anew for what its tags stand for, since they may have changed.

        :raises SourceUnavailable: if the source can't be asked.
        """

    async def tags() -> list[str]:
        """The tags that can be pulled, in order.

        :raises SourceUnavailable: if the source can't be asked.
        """

    async def date(pinned: PinnedSource) -> int | None:
        """When a revision was committed, in seconds since 1970: the same wherever it is asked.

        :return: nothing for what is no commit.
        :raises SourceUnavailable: if the source can't be asked.
        """

    async def unchanged(pinned: PinnedSource) -> bool:
        """Whether what a revision stands for is still to be had: a folder may have been edited."""

    async def stop() -> None:
        """Ask nothing more of the source."""


OnBuild = Callable[[str], None]
"""Takes the ID of the build that an answer waits for."""


class IBuilder(Interface):
    """Images by name, made when they are not known yet."""

    async def manifest(
        image: Image,
        on_build: OnBuild | None = None,
        client: str = "",
        request: str = "",
        behind: bool = False,
        index: str = INDEX_TYPE,
    ) -> Pull:
        """The manifest of an image whose blobs are all stored: an index if the registry has several
        platforms, and the image's name none.

        One build runs however many ask; cancelling one caller's wait stops nobody else's, and
        not the build, which goes on for as long as nobody else wants its turn.

        :param on_build: is told of the build that this waits for, or that failed a moment ago.
        :param client: who asks: turns are shared out between clients, as
            :mod:`nixery.model.networks` tells them apart.
        :param request: what the request is called in the log: so is a build that it begins.
        :param behind: whether nobody waits for the image: builds for others go first then.
        :param index: the media type that an index has; empty for the image of the first platform.
        :raises NixeryError: what kept the image from being made.
        """

    async def stored_manifest(digest: Digest) -> Pull:
        """A manifest that was served before.

        :raises ManifestUnknown: if no manifest of that digest is stored, or not all of its blobs.
        """

    async def provenance() -> Provenance:
        """What an image would be made from that is asked for now, with the tag ``latest``.

        :raises SourceUnavailable: if the package source can't be asked.
        """

    async def tags() -> list[str]:
        """The tags that images have, in order.

        :raises SourceUnavailable: if the package source can't be asked.
        """


@attrs.frozen
class SearchResult:
    """What a package search gives.

    :param ready: whether there is an index to search; it is being made if there is none.
    :param packages: best first.
    :param source: the name of the package source that was searched.
    :param revision: the one that was searched: it may be older than what pulls get.
    :param count: packages in the index.
    :param whole: whether the index holds all of the set.
    :param fault: why there is no newer index, if one can't be made.
    """

    ready: bool
    packages: Sequence[Package] = ()
    source: str = ""
    revision: str = ""
    count: int = 0
    whole: bool = True
    fault: str = ""


class ICatalogue(Interface):
    """The packages of the served set, to be searched."""

    async def search(query: str, limit: int) -> SearchResult:
        """The packages that all words of a query fit, best first; it waits for no evaluation.

        :param limit: the most that are given.
        """

    def package(name: str) -> Package | None:
        """The package of a name, nothing if there is none, or no index yet. It takes less than a
        millisecond, and waits for nothing.

        :param name: an attribute path, or as images write it.
        """

    def suggest(name: str) -> Sequence[Suggestion]:
        """What a name that no package has may stand for, likeliest first; nothing while there is
        no index. It takes less than a millisecond, and waits for nothing.

        :param name: as images write it.
        """

    def lacks(name: str) -> bool:
        """Whether it is known that no package has a name. It takes less than a millisecond, and
        waits for nothing.

        :param name: as images write it.
        """
