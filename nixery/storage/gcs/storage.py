"""Blobs and records in a bucket of Google Cloud Storage.

Its objects::

    layers/<sha256>        every blob: layers, configs, manifests
    builds/<layer key>     records
    manifests/<image key>  records
    staging/<uuid>         what is not whole yet
    leases/<key>           what an instance is making

Any number of instances may share a bucket. Everything that is written over something is written
under a precondition.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import attrs
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from nixery.coalesce import Coalescer
from nixery.interfaces import ILease, IStorage, IUpload, Redirect, Stream
from nixery.model.digest import Digest
from nixery.model.errors import BlobUnknown, NixeryError, StorageUnavailable
from nixery.model.manifest import Descriptor
from nixery.recent import Recent
from nixery.storage.gcs.blobs import Blobs, blob_name, digested, is_whole
from nixery.storage.gcs.bucket import Bucket, Object
from nixery.storage.gcs.cleaning import Cleaning
from nixery.storage.gcs.leases import Leases
from nixery.storage.gcs.patience import Patience
from nixery.storage.gcs.pipe import IPipeReactor
from nixery.storage.gcs.stream import Streams
from nixery.storage.gcs.upload import Sending, Uploads
from nixery.storage.gcs.urls import Urls
from nixery.storage.keys import check_lease_key, check_record_key
from nixery.storage.leasing import Timing

_REMEMBERED = 10_000  # blobs
_MEMORY = 4 * 1024 * 1024  # bytes of small blobs, and of records
_SMALL = 64 * 1024  # bytes
_STALE = 3600.0  # seconds that knowledge serves while the bucket can't be reached
_REST = 5.0  # seconds for which a bucket that could not be reached is not asked again

T = TypeVar("T")


class IStorageReactor(IPipeReactor, IReactorTime):
    """What this storage needs of a reactor."""


@attrs.frozen
class Options:
    """How a bucket is used.

    :param trust: seconds for which what was found out is not asked again.
    :param redirect: whether clients are sent to the bucket, or blobs are copied through here.
    """

    trust: float = 60
    redirect: bool = True
    sending: Sending = Sending()  # noqa: RUF009
    leasing: Timing = Timing()  # noqa: RUF009


@implementer(IStorage)
class GcsStorage:
    """A storage that takes no object for whole by its name alone."""

    _log = Logger()

    def __init__(
        self,
        reactor: IStorageReactor,
        bucket: Bucket,
        find_urls: Callable[[], Awaitable[Urls]],
        check: Callable[[Urls], Awaitable[list[str]]],
        options: Options,
    ) -> None:
        """
        :param find_urls: finds out, when that is needed first, how clients get at objects.
        :param check: looks for what is wrong with the bucket: a phrase for each fault.
        """
        self._reactor = reactor
        self._bucket = bucket
        self._find_urls = find_urls
        self._check = check
        self._options = options
        self._blobs = Blobs(bucket)
        self._uploads = Uploads(reactor, bucket, self._blobs, options.sending)
        self._streams = Streams(bucket)
        self._leases = Leases(bucket, options.leasing)
        self._cleaning = Cleaning(bucket)
        self._known: Recent[Digest, Object] = Recent(reactor.seconds, _REMEMBERED)
        self._contents: Recent[Digest, bytes] = Recent(reactor.seconds, _MEMORY, len)
        self._records: Recent[str, bytes] = Recent(reactor.seconds, _MEMORY, len)
        self._looking: Coalescer[Digest, Object | None] = Coalescer()
        self._finding_urls: Coalescer[None, Urls] = Coalescer()
        self._urls: Urls | None = None
        self._resting_until = 0.0

    async def start(self) -> None:
        faults = await self.faults()
        if faults:
            raise StorageUnavailable("; ".join(faults))
        self._cleaning.start()

    def stop(self) -> None:
        self._cleaning.stop()

    async def faults(self) -> list[str]:
        """What is wrong with the bucket and the rights to it: a phrase for each fault."""
        try:
            return await self._check(await self._get_urls())
        except StorageUnavailable as error:
            return [error.reason]

    # --- records --------------------------------------------------------------------------

    async def read_record(self, key: str, fresh: bool = False) -> bytes | None:
        known = self._records.get(check_record_key(key), self._options.trust)
        if known is not None and not fresh:
            return known

        async def read(patience: Patience | None) -> bytes | None:
            content = await self._bucket.read(key, patience=patience)
            self._note_record(key, content)
            return content

        return await self._ask(self._records.get(key, _STALE), read)

    async def write_record(self, key: str, content: bytes) -> None:
        await self._bucket.write(check_record_key(key), content)
        self._note_record(key, content)

    async def delete_record(self, key: str) -> None:
        await self._bucket.delete(check_record_key(key))
        self._note_record(key, None)

    def _note_record(self, key: str, content: bytes | None) -> None:
        if content is not None and len(content) <= _SMALL:
            self._records.put(key, content)
        else:
            self._records.forget(key)

    # --- blobs ----------------------------------------------------------------------------

    async def write_blob(self, content: bytes) -> Digest:
        read = digested(content)
        self._note(read.digest, await self._blobs.write(content, read))
        self._note_content(read.digest, content)
        return read.digest

    async def read_blob(self, digest: Digest, limit: int) -> bytes:
        found = await self._look(digest)
        if found is None or found.size > limit:
            raise BlobUnknown(str(digest))
        known = self._contents.get(digest)
        if known is not None:
            return known
        content = await self._bucket.read(found.name, found.generation)
        if content is None:
            self._known.forget(digest)
            raise BlobUnknown(str(digest))
        if Digest.of(content) != digest:
            await self._drop(digest, found)
            raise BlobUnknown(str(digest))
        self._note_content(digest, content)
        return content

    async def use(self, blobs: Sequence[Digest]) -> None:
        """A bucket drops nothing, unless its own rules say so."""

    async def missing_blobs(self, blobs: Sequence[Descriptor]) -> list[Digest]:
        looks = [Deferred.fromCoroutine(self._look(blob.digest)) for blob in blobs]
        outcomes = await DeferredList(looks, consumeErrors=True)
        missing = []
        for blob, (succeeded, found) in zip(blobs, outcomes, strict=True):
            if not succeeded:
                found.raiseException()  # type: ignore[union-attr]  # a Failure then
            elif found is None or found.size != blob.size:
                missing.append(blob.digest)
        return missing

    async def locate(self, digest: Digest) -> Redirect | Stream:
        found = await self._look(digest)
        if found is None:
            raise BlobUnknown(str(digest))
        if self._options.redirect:
            return Redirect(await (await self._get_urls()).url(found.name), found.size)
        return Stream(found.size, lambda *part: self._streams.copy(found, *part))

    async def receive(self) -> IUpload:
        return self._uploads.receive(self._note)

    async def lease(self, key: str) -> ILease:
        return await self._leases.lease(check_lease_key(key))

    async def _look(self, digest: Digest) -> Object | None:
        """A blob's object, if it is whole; one that is not is dropped."""
        known = self._known.get(digest, self._options.trust)
        if known is not None:
            return known
        return await self._looking.join(digest, lambda: self._find(digest))

    async def _find(self, digest: Digest) -> Object | None:
        async def find(patience: Patience | None) -> Object | None:
            found = await self._bucket.stat(blob_name(digest), patience)
            if found is None:
                self._known.forget(digest)
            elif is_whole(found, digest):
                self._note(digest, found)
                return found
            else:
                await self._drop(digest, found)
            return None

        return await self._ask(self._known.get(digest, _STALE), find)

    async def _ask(
        self, known: T | None, ask: Callable[[Patience | None], Awaitable[T | None]]
    ) -> T | None:
        """Ask the bucket; while it can't be reached, what was known before has to do."""
        if known is None:
            return await ask(None)
        if self._reactor.seconds() < self._resting_until:
            return known
        try:
            return await ask(self._bucket.requests.patience.quick())
        except StorageUnavailable as error:
            repeats, text = self._bucket.requests.repeats, "serving from memory: {error}"
            repeats.warn(self._log, text, text, error=str(error))
            self._resting_until = self._reactor.seconds() + _REST
            return known

    async def _drop(self, digest: Digest, found: Object) -> None:
        self._known.forget(digest)
        self._contents.forget(digest)
        try:
            await self._blobs.drop(found)
        except NixeryError as error:
            self._log.warn("{name} is still there: {error}", name=found.name, error=str(error))

    def _note(self, digest: Digest, found: Object) -> None:
        self._known.put(digest, attrs.evolve(found, metadata={}))  # it was looked at

    def _note_content(self, digest: Digest, content: bytes) -> None:
        if len(content) <= _SMALL:
            self._contents.put(digest, content)

    async def _get_urls(self) -> Urls:
        if self._urls is None:
            self._urls = await self._finding_urls.join(None, self._find_urls)
        return self._urls
