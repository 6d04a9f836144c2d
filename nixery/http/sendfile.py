"""Files that the kernel sends: their bytes go from the page cache to the client, past Python.

It is for plain connections alone, of TCP or of a UNIX socket. The kernel copies nothing: until a
byte has left, it is read from the page cache, where whoever writes to the file changes it. So the
last check of a file comes when all has left.
"""

import errno
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import FileIO

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from twisted.internet.tcp import Connection
from twisted.python.failure import Failure

from nixery.http.bounds import Bounds
from nixery.http.request import RegistryRequest
from nixery.http.twisted_private import writing_by
from nixery.reactor import IReactor, in_thread

_ROUND = 8 * 1024 * 1024
"""Bytes that all connections together are sent in a round of the reactor: some milliseconds."""
_LEAST, _MOST = 32 * 1024, 4 * 1024 * 1024
"""Bytes that one connection is sent in a round."""
_STRIDE = 128 * 1024
"""Of so many bytes of a file, one is looked for in the page cache: the kernel reads that much at
once, or more."""
_WINDOW = 1024 * 1024
"""Bytes that are read into the page cache at once; as many more are asked for."""
_FRESH = 1.0
"""Seconds for which it is known what is in the page cache: others may need the memory."""
_LEFT = (errno.EPIPE, errno.ECONNRESET, errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH)
_CANNOT = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)


class PageCache:
    """The parts of files that the kernel has in memory: others would have to come from a disk."""

    def has(self, file: FileIO, start: int, end: int) -> bool:
        """Whether it has bytes of a file, as far as samples of them tell."""
        try:
            for at in (*range(start, end, _STRIDE), end - 1):
                os.preadv(file.fileno(), [bytearray(1)], at, os.RWF_NOWAIT)
        except OSError:  # it would have to wait, or the file system does not tell
            return False
        return True

    def load(self, file: FileIO, start: int, end: int) -> None:
        """Read bytes of a file into it, and begin with as many behind them. Blocks."""
        os.posix_fadvise(file.fileno(), end, end - start, os.POSIX_FADV_WILLNEED)
        with open(os.devnull, "wb") as nowhere:
            while sent := os.sendfile(nowhere.fileno(), file.fileno(), start, end - start):
                start += sent  # until there is no more, or the file was cut


_CACHE = PageCache()


async def send_file(
    reactor: IReactor,
    request: RegistryRequest,
    file: FileIO,
    start: int,
    end: int,
    check: Callable[[], None],
    cache: PageCache = _CACHE,
) -> int:
    """Have the kernel send bytes of an open file to a request whose headers are written.

    :param start: of the first byte.
    :param end: of the first byte that is not sent.
    :param check: is called after each piece, and when all has left; what it raises ends the
        sending.
    :return: how far it came: no further than the start where the connection speaks TLS, or the
        file system is one from which the kernel can't send.
    :raises OSError: if the file can't be read, or is shorter than that.
    """
    transport = request.channel.transport
    if not isinstance(transport, Connection):
        return start
    bounds: Bounds = request.site.bounds
    sending = _Sending(reactor, cache, request, transport, bounds, file, start, end, check)
    bounds.sending += 1
    try:
        unsent = _unsent(transport.getHandle(), sending.piece)
        with unsent, writing_by(transport, sending.write):
            await sending.ended
    finally:
        bounds.sending -= 1
    return sending.at


@attrs.define(eq=False)
class _Sending:
    """A part of a file that is being sent: see :func:`send_file`.

    :param at: the offset of the next byte.
    :param ended: fires when all has left, or the kernel can't send it; fails if the file can't be
        read, or the check fails.
    :param cached: up to there, the file was in the page cache a moment ago.
    :param fresh: until when that counts.
    """

    reactor: IReactor
    cache: PageCache
    request: RegistryRequest
    transport: Connection
    bounds: Bounds
    file: FileIO
    at: int
    end: int
    check: Callable[[], None]
    ended: Deferred[None] = attrs.Factory(Deferred)
    cached: int = 0
    fresh: float = 0

    @property
    def piece(self) -> int:
        """The most bytes that are sent in a round."""
        return max(_LEAST, min(_MOST, _ROUND // self.bounds.sending))

    def write(self) -> Exception | None:
        """Send a piece, as the connection takes more.

        :return: an error if the client has left.
        """
        try:
            self._send()
        except BlockingIOError:
            pass
        except OSError as error:
            if error.errno in _LEFT:
                return ConnectionLost()
            self._fail(Failure())
        except Exception:
            self._fail(Failure())
        return None

    def _send(self) -> None:
        if self.at == self.end:  # and it has left, or the connection would take no more
            self.check()
            self.ended.callback(None)
            return
        if self.at >= self.cached or self.reactor.seconds() > self.fresh:
            end = min(self.at + self.piece, self.end)
            if not self.cache.has(self.file, self.at, end):
                self._load(min(self.at + _WINDOW, self.end))
                return
            self._remember(end)
        size = min(self.piece, self.cached - self.at)
        sent = os.sendfile(self.transport.fileno(), self.file.fileno(), self.at, size)
        self.at += sent
        self.request.sentLength += sent
        self.check()
        if not sent:
            raise OSError(errno.EIO, "the file is shorter than it was")
        if self.at == self.end:
            _limit_unsent(self.transport.getHandle(), 1)

    def _load(self, end: int) -> None:
        """Send no more until a thread has read what is next: a disk may take long."""
        self.transport.stopWriting()

        def go_on(_: None) -> None:
            self._remember(end)
            if not self.ended.called:
                self.transport.startWriting()

        loading = in_thread(self.reactor, self.cache.load, self.file, self.at, end)
        loading.addCallbacks(go_on, self._fail)

    def _remember(self, end: int) -> None:
        """Take the file to be in the page cache up to there, for a moment."""
        self.cached, self.fresh = end, self.reactor.seconds() + _FRESH

    def _fail(self, failure: Failure) -> None:
        if self.ended.called:
            return  # the client has left, and the file is closed
        if getattr(failure.value, "errno", None) in _CANNOT:
            self.ended.callback(None)
        else:
            self.ended.errback(failure)


@contextmanager
def _unsent(connection: socket.socket, size: int) -> Iterator[None]:
    """Let a TCP connection have that many bytes that have not left, or more, while a file is sent:
    they take no memory of their own."""
    if connection.family == socket.AF_UNIX:
        yield
        return
    usual = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT)
    _limit_unsent(connection, max(usual, size))
    try:
        yield
    finally:
        if connection.fileno() >= 0:  # it may be closed by now
            _limit_unsent(connection, usual)


def _limit_unsent(connection: socket.socket, size: int) -> None:
    """Have a connection take more only while fewer bytes than that have not left it."""
    if connection.family != socket.AF_UNIX:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, size)
