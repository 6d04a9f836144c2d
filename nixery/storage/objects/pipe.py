"""A named pipe that another process writes a blob to."""

import base64
import contextlib
import enum
import fcntl
import hashlib
import mmap
import os
import shutil
import tempfile
from typing import Any

import google_crc32c
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFDSet, IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from nixery.model.digest import Digest
from nixery.reactor import IReactor, in_thread
from nixery.storage.objects.object_blobs import BlobFacts

_CAPACITY = 1024 * 1024  # bytes, if the system allows it
_SET_CAPACITY = 1031  # F_SETPIPE_SZ of Linux
_PIECE = 256 * 1024  # bytes
_LOOK = 64 * 1024  # bytes


class IPipeReactor(IReactorFDSet, IReactor):
    """The reactor as a pipe needs it."""


class _Found(enum.Enum):
    """The outcome of a read."""

    SOME = enum.auto()
    NOTHING_YET = enum.auto()
    END = enum.auto()


@implementer(IReadDescriptor)
class Pipe:
    """The reading end: the writer is held up for as long as nobody reads.

    It is open from the start, so that the writer is never held up in opening it. The bytes are
    read and digested in threads, which never wait.

    :ivar closed: fires when nothing of it is left, for one who waits for that.
    """

    def __init__(self, reactor: IPipeReactor, parent: str) -> None:
        """
        :param parent: an existing folder that is nobody else's.
        """
        self._reactor = reactor
        self._folder = tempfile.mkdtemp(dir=parent)
        self.path = os.path.join(self._folder, "blob")
        os.mkfifo(self.path, 0o600)
        self._descriptor: int | None = os.open(
            self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
        )
        self.closed: Deferred[None] = Deferred()
        self._sha256 = hashlib.sha256()
        self._crc32c: Any = google_crc32c.Checksum()  # type: ignore[no-untyped-call]
        self._size = 0
        self._ready: Deferred[None] | None = None
        self._busy = False
        self._pending = b""
        self._ended = False
        self._finished = False

    @property
    def read_so_far(self) -> BlobFacts:
        """The facts of all that has come until now."""
        checksum = base64.b64encode(self._crc32c.digest()).decode("ascii")
        return BlobFacts(Digest(self._sha256.hexdigest()), self._size, checksum)

    def finish(self) -> None:
        """Say that nobody will open the pipe any more: it ends when it is empty."""
        self._finished = True
        self._wake()

    def close(self) -> None:
        """Have nothing of it left: who still writes gets an error. Harmless if repeated."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self._ended = True
        self._wake()
        if not self._busy:
            self._close()

    async def more(self) -> bool:
        """Wait until there is a byte that was not handed out, or there will be none."""
        while not self._pending and not self._ended:
            buffer = memoryview(bytearray(_LOOK))
            count = await self._fill(buffer)
            self._pending = bytes(buffer[:count])
        return bool(self._pending)

    async def read(self, size: int) -> memoryview:
        """The next bytes: fewer than that only at the end.

        :param size: at least 64 KiB.
        """
        # Pages of its own, which the system gets back as soon as nobody refers to them.
        buffer = memoryview(mmap.mmap(-1, size))
        count = len(self._pending)
        buffer[:count], self._pending = self._pending, b""
        while count < size and not self._ended:
            count += await self._fill(buffer[count:])
        return buffer[:count]

    async def _fill(self, buffer: memoryview) -> int:
        """Put some bytes into a buffer, or find out that there are no more.

        :return: how many.
        """
        if not self._finished:
            await self._readable()
        if self._ended or self._descriptor is None:
            return 0
        count, found = await self._take_in_thread(self._descriptor, buffer)
        if found is _Found.END:
            self._ended = True
        elif found is _Found.NOTHING_YET and self._finished and not self._ended:
            self._finished = False  # there is a writer still: wait for it
            await self._readable()
            self._finished = True
        return count

    def _take_in_thread(
        self, descriptor: int, buffer: memoryview
    ) -> "Deferred[tuple[int, _Found]]":
        """Read in a thread; who does not wait for it any longer does not take its file away."""
        waiter: Deferred[tuple[int, _Found]] = Deferred()

        def finish(result: tuple[int, _Found] | Failure) -> None:
            self._busy = False
            if self._ended:
                self._close()
            if not waiter.called:
                waiter.callback(result)  # a Failure is as good

        self._busy = True
        in_thread(self._reactor, self._take, descriptor, buffer).addBoth(finish)
        return waiter

    def _take(self, descriptor: int, buffer: memoryview) -> tuple[int, "_Found"]:
        """Read what is there, in a thread."""
        if self._size == 0:
            with contextlib.suppress(OSError):
                fcntl.fcntl(descriptor, _SET_CAPACITY, _CAPACITY)
        count = 0
        while count < len(buffer):
            try:
                piece = os.read(descriptor, min(_PIECE, len(buffer) - count))
            except BlockingIOError:
                return count, _Found.SOME if count else _Found.NOTHING_YET
            if not piece:
                return count, _Found.END
            self._sha256.update(piece)
            self._crc32c.update(piece)
            self._size += len(piece)
            buffer[count : count + len(piece)] = piece
            count += len(piece)
        return count, _Found.SOME

    async def _readable(self) -> None:
        if self._ended:
            return
        self._ready = Deferred()
        self._reactor.addReader(self)
        try:
            await self._ready
        finally:
            self._reactor.removeReader(self)
            self._ready = None

    def _wake(self) -> None:
        if self._ready is not None and not self._ready.called:
            self._ready.callback(None)

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)
            self.closed.callback(None)

    # --- IReadDescriptor ------------------------------------------------------------------

    def fileno(self) -> int:
        return -1 if self._descriptor is None else self._descriptor

    def doRead(self) -> None:
        self._reactor.removeReader(self)
        self._wake()

    def connectionLost(self, reason: Failure) -> None:
        self.doRead()

    def logPrefix(self) -> str:
        return "a layer's pipe"
