"""Blobs and records in a bucket of an object store.

Its objects::

    layers/<sha256>           every blob: layers, configs, manifests
    builds/<layer key>        records, as in every storage: nixery/storage/keys.py
    manifests/<image key>
    …
    staging/<uuid>            what is not whole yet
    leases/<key>              what an instance is making

Any number of instances may share a bucket. Everything that is written over something is written
under a precondition.
"""

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from math import inf
from typing import TypeVar

import attrs
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IConsumer
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from zope.interface import implementer

from nixery.coalesce import Coalescer
from nixery.interfaces import ILease, IStorage, IUpload, Redirect, Stream, Tidied
from nixery.model.digest import Digest
from nixery.model.errors import NixeryError
from nixery.model.manifest import Descriptor
from nixery.model.request_errors import BlobUnknown
from nixery.model.service_errors import StorageUnavailable
from nixery.recent import Recent
from nixery.storage.held_lease import LeaseTiming
from nixery.storage.keys import (
    check_lease_key,
    check_record_key,
    check_record_prefix,
    is_lease_key,
    is_record_key,
    is_staged_name,
)
from nixery.storage.objects.object_blobs import BlobFacts, ObjectBlobs, blob_name, is_whole
from nixery.storage.objects.object_leases import ObjectLeases
from nixery.storage.objects.object_store import (
    IObjectStore,
    NewObject,
    PassingFault,
    StoredObject,
)
from nixery.storage.objects.patient_store import Patience, PatientStore
from nixery.storage.objects.pipe import IPipeReactor
from nixery.storage.objects.uploads import UploadOptions, Uploads

_REMEMBERED = 10_000  # blobs
_REMEMBERED_URLS = 4096
_MEMORY = 4 * 1024 * 1024  # bytes of small blobs, and of records
_SMALL = 64 * 1024  # bytes
_STALE = 3600.0  # seconds that knowledge serves while the bucket can't be reached
_REST = 5.0  # seconds for which a bucket that could not be reached is not asked again
_OLD = 24 * 3600.0  # seconds after which what nobody finished goes
_CLEANING = 6 * 3600.0  # seconds between two looks for it
_UNFINISHED = {"staging/": is_staged_name, "leases/": is_lease_key}
"""Where it is, and which names there are of our form."""

T = TypeVar("T")


@attrs.frozen
class ObjectOptions:
    """How a bucket is used.

    :param trust: seconds for which what was found out is not asked again.
    :param redirect: whether clients are sent to the bucket, or blobs are copied through here.
    :param url_lifetime: seconds that a URL is good for at least half of when it is handed out,
        unless what signed it ends before.
    """

    trust: float = 60
    redirect: bool = True
    url_lifetime: int = 300
    patience: Patience = Patience()  # noqa: RUF009
    uploads: UploadOptions = UploadOptions()  # noqa: RUF009
    leases: LeaseTiming = LeaseTiming()  # noqa: RUF009


@implementer(IStorage)
class ObjectStorage:
    """A storage that takes no object for whole by its name alone."""

    _log = Logger()

    def __init__(
        self,
        reactor: IPipeReactor,
        store: IObjectStore,
        options: ObjectOptions = ObjectOptions(),
    ) -> None:
        self._reactor = reactor
        self._options = options
        self._store = PatientStore(reactor, store, options.patience)
        self._blobs = ObjectBlobs(self._store)
        self._uploads = Uploads(reactor, self._store, self._blobs, options.uploads, self._note)
        self._leases = ObjectLeases(self._store, options.leases)
        self._cleaning = LoopingCall(lambda: Deferred.fromCoroutine(self._clean()))
        self._cleaning.clock = reactor
        self._known: Recent[Digest, StoredObject] = Recent(reactor.seconds, _REMEMBERED)
        self._contents: Recent[Digest, bytes] = Recent(reactor.seconds, _MEMORY, len)
        self._records: Recent[str, bytes] = Recent(reactor.seconds, _MEMORY, len)
        self._urls: Recent[str, str] = Recent(reactor.seconds, _REMEMBERED_URLS)
        self._looking: Coalescer[Digest, StoredObject | None] = Coalescer()
        self._signing: Coalescer[str, str] = Coalescer()
        self._resting_until = 0.0
        self._losses = 0

    async def start(self) -> None:
        faults = await self.faults()
        if faults:
            raise StorageUnavailable("; ".join(faults))
        for remark in self.remarks:
            self._log.warn("{remark}", remark=remark)
        if not self._cleaning.running:
            self._cleaning.start(_CLEANING)

    def stop(self) -> None:
        if self._cleaning.running:
            self._cleaning.stop()

    async def faults(self) -> Sequence[str]:
        """The reasons why the bucket can't be used, a phrase for each."""
        looking = partial(self._store.store.faults, self._options.redirect)
        try:
            return await self._store.run("looking into the bucket", looking)
        except StorageUnavailable as error:
            return [error.reason]

    @property
    def remarks(self) -> Sequence[str]:
        """What operators should know of the bucket's service; complete after :meth:`faults`."""
        return self._store.store.remarks

    async def tidy(self) -> Tidied:
        await self._clean()
        return Tidied()

    async def probe(self) -> None:
        name, content = f"staging/{uuid.uuid4().hex}", uuid.uuid4().bytes
        written = await self._store.write(NewObject(name, content))
        found = await self._store.read(name, written.version)
        await self._store.delete(name, written.version)
        if found != content:
            raise StorageUnavailable("what was written just now is not there")

    # --- records --------------------------------------------------------------------------

    async def read_record(self, key: str, fresh: bool = False) -> bytes | None:
        known = self._records.get(check_record_key(key), self._options.trust)
        if known is not None and not fresh:
            return known

        async def read(patience: Patience | None) -> bytes | None:
            content = await self._store.read(key, patience=patience)
            self._note_record(key, content)
            return content

        return await self._ask(self._records.get(key, _STALE), read)

    async def write_record(self, key: str, content: bytes, lasting: bool = True) -> None:
        await self._store.write(NewObject(check_record_key(key), content))
        self._note_record(key, content)

    async def delete_record(self, key: str) -> None:
        await self._store.delete(check_record_key(key))
        self._note_record(key, None)

    async def list_records(self, prefix: str) -> AsyncIterator[str]:
        async for found in self._objects(check_record_prefix(prefix)):
            if is_record_key(found.name):
                yield found.name

    def _note_record(self, key: str, content: bytes | None) -> None:
        if content is not None and len(content) <= _SMALL:
            self._records.put(key, content)
        else:
            self._records.forget(key)

    # --- blobs ----------------------------------------------------------------------------

    async def write_blob(self, content: bytes) -> Digest:
        facts = BlobFacts.of(content)
        self._note(facts.digest, await self._blobs.write(content, facts))
        self._note_content(facts.digest, content)
        return facts.digest

    async def read_blob(self, digest: Digest, limit: int) -> bytes:
        found = await self._look(digest)
        if found is None or found.size > limit:
            raise BlobUnknown(str(digest))
        known = self._contents.get(digest)
        if known is not None:
            return known
        content = await self._store.read(found.name, found.version)
        if content is None:
            self._lost(digest)
            raise BlobUnknown(str(digest))
        if Digest.of(content) != digest:
            await self._drop(digest, found)
            raise BlobUnknown(str(digest))
        self._note_content(digest, content)
        return content

    async def use(self, blobs: Sequence[Digest]) -> None:
        """A bucket drops nothing, unless its own rules say so."""

    async def drop(self, blobs: Sequence[Digest], used: bool = False) -> list[Digest]:
        for digest in blobs:
            await self._store.delete(blob_name(digest))
            self._lost(digest)
            self._contents.forget(digest)
        return []  # what is of use, nobody knows here

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

    def changes(self) -> int | None:
        """Nobody tells; what was found is believed for a while in any case."""
        return self._losses

    async def locate(self, digest: Digest) -> Redirect | Stream:
        found = await self._look(digest)
        if found is None:
            raise BlobUnknown(str(digest))
        if self._options.redirect:
            return Redirect(await self._url(found.name), found.size)
        return Stream(found.size, lambda *part: self._copy(found, *part))

    async def receive(self) -> IUpload:
        return self._uploads.receive()

    async def lease(self, key: str) -> ILease:
        return await self._leases.lease(check_lease_key(key))

    async def _look(self, digest: Digest) -> StoredObject | None:
        """A blob's object, if it is whole; one that is not is dropped."""
        known = self._known.get(digest, self._options.trust)
        if known is not None:
            return known
        return await self._looking.join(digest, lambda: self._find(digest))

    async def _find(self, digest: Digest) -> StoredObject | None:
        async def find(patience: Patience | None) -> StoredObject | None:
            found = await self._store.head(blob_name(digest), patience)
            if found is None:
                self._lost(digest)
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
            return await ask(self._store.patience.quick())
        except StorageUnavailable as error:
            text = "serving from memory: {error}"
            self._store.repeats.warn(self._log, text, text, error=str(error))
            self._resting_until = self._reactor.seconds() + _REST
            return known

    async def _drop(self, digest: Digest, found: StoredObject) -> None:
        self._lost(digest)
        self._contents.forget(digest)
        try:
            await self._blobs.drop(found)
        except NixeryError as error:
            self._log.warn("{name} is still there: {error}", name=found.name, error=str(error))

    def _lost(self, digest: Digest) -> None:
        self._losses += self._known.get(digest) is not None
        self._known.forget(digest)

    def _note(self, digest: Digest, found: StoredObject) -> None:
        self._known.put(digest, attrs.evolve(found, metadata={}))  # it was looked at

    def _note_content(self, digest: Digest, content: bytes) -> None:
        if len(content) <= _SMALL:
            self._contents.put(digest, content)

    # --- how clients get there ------------------------------------------------------------

    async def _url(self, name: str) -> str:
        """A URL to GET an object from, handed out for the first half of its life at most."""
        lifetime = self._options.url_lifetime
        known = self._urls.get(name, min(lifetime / 2, self._store.store.url_age))
        if known is not None:
            return known

        async def sign() -> str:
            signing = partial(self._store.store.url, name, lifetime)
            url = await self._store.run(f"signing a URL of {name}", signing)
            self._urls.put(name, url)
            return url

        return await self._signing.join(name, sign)

    async def _copy(
        self, found: StoredObject, start: int, length: int, consumer: IConsumer
    ) -> None:
        """Write a part of an object to a consumer; what a lost connection has not brought is asked
        for anew.

        :raises StorageUnavailable: if it can't be had; some may have been written.
        :raises CancelledError: if the consumer wants no more.
        """
        offset, end = start, start + length

        async def copy(limit: float) -> None:
            nonlocal offset
            before = offset
            offset += await self._store.store.copy_range(found, offset, end, consumer, limit)
            if offset < end:
                reason = f"it ended after {offset - before} of {end - before} bytes"
                raise PassingFault(reason, progress=offset > before)

        if length:
            # An attempt may take long and bring nothing: its tries alone are counted.
            patience = attrs.evolve(self._store.patience, total=inf)
            await self._store.run(f"reading {found.name}", copy, patience, counted=False)

    # --- what instances that are no more have left unfinished -------------------------------

    async def _clean(self) -> None:
        """Delete what is old by the store's own clock; what fails is tried next time."""
        try:
            for prefix, is_ours in _UNFINISHED.items():
                async for found in self._objects(prefix):
                    ours = is_ours(found.name.removeprefix(prefix))
                    if ours and found.age is not None and found.age > _OLD:
                        await self._store.delete(found.name, found.version)
                        self._log.info("deleted {name}: nobody finished it", name=found.name)
            dropping = partial(self._store.store.drop_uploads, _OLD)
            await self._store.run("dropping old uploads", dropping)
        except NixeryError as error:
            self._log.warn("old objects are left for later: {error}", error=str(error))

    async def _objects(self, prefix: str) -> AsyncIterator[StoredObject]:
        page: str | None = None
        while True:
            listing = partial(self._store.store.list_page, prefix, page)
            objects, page = await self._store.run(f"listing {prefix}", listing)
            for found in objects:
                yield found
            if page is None:
                return
