"""A layer on its way from a packer into the bucket, never whole in memory."""

import os
import shutil
import tempfile
import uuid
import weakref
from collections.abc import Callable

import attrs
from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from nixery.interfaces import IUpload
from nixery.model.digest import Digest
from nixery.model.errors import NixeryError, StorageFull, StorageUnavailable
from nixery.storage.gcs.blobs import Blobs, check_arrived
from nixery.storage.gcs.bucket import Bucket, Object
from nixery.storage.gcs.patience import Patience
from nixery.storage.gcs.pipe import IPipeReactor, Pipe, Read
from nixery.storage.gcs.session import Session

STEP = 256 * 1024
"""Bytes: what is sent before the end is a multiple of it."""


@attrs.frozen
class Sending:
    """How uploads go.

    :param chunk: bytes that are sent by one request; of each upload, two such chunks are in
        memory at most.
    :param at_once: uploads whose bytes are read; the packers of others are held up.
    """

    chunk: int = 32 * STEP
    at_once: int = 3
    patience: Patience = Patience(tries=8, total=180, first=0.5, longest=8, limit=60)  # noqa: RUF009


class Uploads:
    """Makes uploads."""

    def __init__(
        self, reactor: IPipeReactor, bucket: Bucket, blobs: Blobs, sending: Sending
    ) -> None:
        self.bucket = bucket
        self.blobs = blobs
        self.sending = sending
        self.turns = DeferredSemaphore(sending.at_once)
        self._reactor = reactor
        self._folder: str | None = None

    def receive(self, stored: Callable[[Digest, Object], None]) -> "PipeUpload":
        """Begin an upload.

        :param stored: is told of the blob when it is in its place.
        :raises StorageFull: if this machine has no room for a name.
        :raises StorageUnavailable: if it can't make a pipe.
        """
        try:
            if self._folder is None or not os.path.isdir(self._folder):
                self._folder = tempfile.mkdtemp(prefix="nixery-")
                weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
            pipe = Pipe(self._reactor, self._folder)
        except OSError as error:
            raise StorageUnavailable(f"no pipe can be made: {error}") from error
        return PipeUpload(self, pipe, stored)


@implementer(IUpload)
class PipeUpload:
    """A blob in the making. A blob of one chunk is sent when it is committed; of a larger one,
    all but the last chunk before."""

    _log = Logger()

    def __init__(
        self, uploads: Uploads, pipe: Pipe, stored: Callable[[Digest, Object], None]
    ) -> None:
        self.sink = pipe.path
        self.fault: NixeryError | None = None
        self._uploads = uploads
        self._pipe = pipe
        self._stored = stored
        self._session: Session | None = None
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
            self._stored(digest, await self._place(last, read))
        finally:
            await self.discard()

    async def discard(self) -> None:
        if self._over:
            return
        self._over = True
        self._pipe.close()
        self._receiving.cancel()
        self._give_turn_back()
        session, self._session = self._session, None
        if session is not None:
            await session.cancel()
        await self._pipe.closed  # a thread may just be reading from it

    async def _receive(self) -> memoryview:
        """Send all chunks but the last.

        :return: the last one, which is empty if nothing came.
        """
        chunk = self._uploads.sending.chunk
        if await self._pipe.more():
            await self._uploads.turns.acquire()
            self._holds_turn = True
        held = await self._pipe.read(chunk)
        offset = 0
        while await self._pipe.more():
            if self._session is None:
                self._session = await self._begin()
            held, offset = await self._exchange(held, offset, self._session), offset + chunk
        return held

    async def _begin(self) -> Session:
        bucket = self._uploads.bucket
        url = await bucket.begin_upload(self._name)
        return Session(bucket.requests, self._name, url, self._uploads.sending.patience)

    async def _exchange(self, chunk: memoryview, offset: int, session: Session) -> memoryview:
        """Send a chunk and receive the next one meanwhile."""
        following = Deferred.fromCoroutine(self._pipe.read(self._uploads.sending.chunk))
        try:
            await session.send(chunk, offset)
        except BaseException:
            following.addErrback(lambda failure: failure.trap(CancelledError))
            following.cancel()
            raise
        return await following

    async def _place(self, last: memoryview, read: Read) -> Object:
        uploads, session = self._uploads, self._session
        if session is None:
            return await uploads.blobs.write(last, read)
        document = await session.send(last, read.size - len(last), read.size)
        self._session = None
        staged = check_arrived(document or {}, read)
        try:
            return await uploads.blobs.take(staged, read)
        finally:
            await self._forget(staged)

    async def _forget(self, staged: Object) -> None:
        try:
            await self._uploads.bucket.delete(staged.name, staged.generation)
        except NixeryError as error:
            self._log.warn("{name} is left for later: {error}", name=staged.name, error=error)

    def _failed(self, failure: Failure) -> None:
        """Let the packer know at once: what it writes now is for nobody."""
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
