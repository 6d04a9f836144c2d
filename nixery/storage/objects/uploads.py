"""A layer on its way from a packer into a bucket, never whole in memory."""

import os
import shutil
import tempfile
import uuid
import weakref
from collections.abc import Awaitable, Callable
from functools import partial

import attrs
from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from nixery.interfaces import IUpload
from nixery.model.digest import Digest
from nixery.model.errors import NixeryError
from nixery.model.service_errors import StorageFull, StorageUnavailable
from nixery.storage.objects.object_blobs import BlobFacts, ObjectBlobs
from nixery.storage.objects.object_store import IObjectUpload, StoredObject
from nixery.storage.objects.patient_store import Patience, PatientStore
from nixery.storage.objects.pipe import IPipeReactor, Pipe


@attrs.frozen
class UploadOptions:
    """How uploads go.

    :param part: bytes that are sent at a time, a multiple of 256 KiB and at least 5 MiB for the
        stores that there are; of each upload, two parts are in memory at most.
    :param at_once: uploads whose bytes are read; the packers of others are held up.
    """

    part: int = 8 * 1024 * 1024
    at_once: int = 3
    patience: Patience = Patience(tries=8, total=180, first=0.5, longest=8, limit=60)  # noqa: RUF009


class Uploads:
    """Makes uploads."""

    def __init__(
        self,
        reactor: IPipeReactor,
        store: PatientStore,
        blobs: ObjectBlobs,
        options: UploadOptions,
        stored: Callable[[Digest, StoredObject], None],
    ) -> None:
        """
        :param stored: is told of each blob when it is in its place.
        """
        self.store = store
        self.blobs = blobs
        self.options = options
        self.stored = stored
        self.turns = DeferredSemaphore(options.at_once)
        self._reactor = reactor
        self._folder: str | None = None

    def receive(self) -> "PipeUpload":
        """Begin an upload.

        :raises StorageUnavailable: if this machine can't make a pipe.
        """
        try:
            if self._folder is None or not os.path.isdir(self._folder):
                self._folder = tempfile.mkdtemp(prefix="nixery-")
                weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
            return PipeUpload(self, Pipe(self._reactor, self._folder))
        except OSError as error:
            raise StorageUnavailable(f"no pipe can be made: {error}") from error


@implementer(IUpload)
class PipeUpload:
    """A blob in the making. A blob of one part is sent when it is committed; of a larger one, all
    but the last part before."""

    _log = Logger()

    def __init__(self, uploads: Uploads, pipe: Pipe) -> None:
        self.sink = pipe.path
        self.fault: NixeryError | None = None
        self._uploads = uploads
        self._store = uploads.store
        self._pipe = pipe
        self._parts: IObjectUpload | None = None
        self._name = f"staging/{uuid.uuid4().hex}"
        self._holds_turn = False
        self._over = False
        self._receiving = Deferred.fromCoroutine(self._receive())
        self._receiving.addErrback(self._failed)

    async def commit(self, digest: Digest, size: int) -> None:
        self._pipe.finish()
        try:
            last = await self._receiving
            if self.fault is not None:
                raise self.fault
            if last is None:
                raise StorageUnavailable("the upload was given up")
            read = self._pipe.read_so_far
            if (read.digest, read.size) != (digest, size):
                raise StorageUnavailable(
                    f"of {size} bytes that were written, {read.size} arrived, "
                    f"with the digest {read.digest}"
                )
            self._uploads.stored(digest, await self._place(last, read))
        finally:
            await self.discard()

    async def discard(self) -> None:
        if self._over:
            return
        self._over = True
        self._pipe.close()
        self._receiving.cancel()
        self._give_turn_back()
        parts, self._parts = self._parts, None
        if parts is not None:
            await parts.cancel(self._store.patience.limit)
        await self._pipe.closed  # a thread may just be reading from it

    async def _receive(self) -> memoryview:
        """Send all parts but the last.

        :return: the last one, which is empty if nothing came.
        """
        size = self._uploads.options.part
        if await self._pipe.more():
            await self._uploads.turns.acquire()
            self._holds_turn = True
        held = await self._pipe.read(size)
        while await self._pipe.more():
            if self._parts is None:
                beginning = partial(self._store.store.begin_upload, self._name)
                what = f"beginning the upload of {self._name}"
                self._parts = await self._store.run(what, beginning)
            held = await self._exchange(held, size)
        return held

    async def _exchange(self, part: memoryview, size: int) -> memoryview:
        """Send a part and receive the next one meanwhile."""
        following = Deferred.fromCoroutine(self._pipe.read(size))
        try:
            await self._send(part, last=False)
        except BaseException:
            following.addErrback(lambda failure: failure.trap(CancelledError))
            following.cancel()
            raise
        return await following

    def _send(self, part: memoryview, last: bool) -> Awaitable[StoredObject | None]:
        parts = self._parts
        assert parts is not None
        patience = self._uploads.options.patience
        return self._store.run(f"uploading {self._name}", partial(parts.send, part, last), patience)

    async def _place(self, last: memoryview, read: BlobFacts) -> StoredObject:
        blobs = self._uploads.blobs
        if self._parts is None:
            return await blobs.write(last, read)
        staged = await self._send(last, last=True)
        self._parts = None
        assert staged is not None
        blobs.check_arrived(staged, read)
        try:
            return await blobs.take(staged, read, self._uploads.options.patience)
        finally:
            try:
                await self._store.delete(staged.name, staged.version)
            except NixeryError as error:
                self._log.warn("{name} is left for later: {error}", name=staged.name, error=error)

    def _failed(self, failure: Failure) -> None:
        """Let the packer know at once: nobody wants what it writes from now on."""
        error = failure.value
        if isinstance(error, StorageFull | StorageUnavailable):
            self.fault = error
        elif not isinstance(error, CancelledError):
            self.fault = StorageUnavailable(f"receiving a layer failed: {error}")
            self._log.failure("while receiving a layer", failure)
        self._pipe.close()
        self._give_turn_back()

    def _give_turn_back(self) -> None:
        if self._holds_turn:
            self._holds_turn = False
            self._uploads.turns.release()
