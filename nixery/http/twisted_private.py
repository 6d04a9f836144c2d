"""The private parts of Twisted that the server depends on, under public names, and no others.

pyproject.toml bounds Twisted's version for their sake, and tests/http/test_twisted_private.py names
each of them.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from twisted.internet.abstract import FileDescriptor
from twisted.internet.error import ConnectionDone
from twisted.internet.tcp import Connection
from twisted.protocols.basic import LineReceiver
from twisted.protocols.tls import BufferingTLSTransport
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel
from twisted.web.server import Request


class OpenChannel(HTTPChannel):
    """An HTTP/1.1 connection whose subclass decides on its own when to read, and when to stop."""

    transport: Any
    reading_paused = False
    """Whether nothing more is taken from the network, because :meth:`pause_reading` said so."""
    _networkProducer: Any

    def limit_head(self, size: int) -> None:
        """Let Twisted itself refuse no head that has at most this many bytes."""
        self.totalHeadersSize = self.MAX_LENGTH = self.maxHeaders = size

    def read(self, data: bytes) -> None:
        """Read bytes that have come, without Twisted's own timer."""
        LineReceiver.dataReceived(self, data)

    def join_pieces(self, most: int) -> None:
        """Join what has come behind the current request, if there are more pieces than this.

        Twisted counts all pieces whenever one comes.
        """
        if len(self._dataBuffer) > most:
            self._dataBuffer = [b"".join(self._dataBuffer)]

    def pause_reading(self) -> None:
        """Take nothing more from the network for now."""
        self.reading_paused = True
        self._networkProducer.pauseProducing()

    def resume_reading(self) -> None:
        """Take more from the network."""
        self.reading_paused = False
        self._networkProducer.resumeProducing()

    def resumeProducing(self) -> None:
        """Go on, now that what was written has left.

        Twisted has a request's producer go on, then reads on if no request is being answered; but
        the producer may just have ended its request, behind which the reading was paused.
        """
        super().resumeProducing()  # type: ignore[no-untyped-call]
        if self.reading_paused:
            self._networkProducer.pauseProducing()

    def stop_reading_requests(self) -> None:
        """Drop what has come, and stop reading requests."""
        self.clearLineBuffer()
        self._networkProducer.unregisterProducer()

    @property
    def is_full(self) -> bool:
        """Whether some of what was written has not left yet."""
        return bool(self._waitingForTransport)

    @property
    def has_unsent(self) -> bool:
        """Whether the transport still has some of what was written, as far as it tells."""
        below = self.transport
        if isinstance(below, FileDescriptor):
            return bool(below.dataBuffer or below._tempDataBuffer)
        return self.is_full

    def send(self, data: bytes) -> None:
        """Write when nothing is unsent: what the kernel takes leaves at once, and not in the
        reactor's next round, after two calls to have the kernel watch the connection.
        """
        if isinstance(self.transport, FileDescriptor):
            sent = self.transport.writeSomeData(data)
            if isinstance(sent, int):
                data = data[sent:]
        if data:
            self.transport.write(data)

    @property
    def has_unread(self) -> bool:
        """Whether some has come that was not read yet."""
        return bool(self._buffer)

    @property
    def http_version(self) -> bytes:
        """The version that the request's first line names."""
        return self._version

    @property
    def asked_target(self) -> bytes:
        """The target that the request's first line names."""
        return self._path

    def malformed(self) -> None:
        """Answer what Twisted finds to be no proper request."""
        raise NotImplementedError

    def _respondToBadRequestAndDisconnect(self) -> None:
        self.malformed()


class OpenRequest(Request):
    """A request for ``*`` is one like others: Twisted would answer it on its own."""

    def _handleStar(self) -> None:
        assert self.site is not None
        self.render(self.site.getResourceFor(self))


class OpenTLS(BufferingTLSTransport):
    """A TLS connection that can turn into a plain one before the handshake."""

    transport: Any

    def end_tls(self) -> None:
        """Tell the protocol above that its connection is closed, and leave the one below open."""
        self.transport.unregisterProducer()
        self._lostTLSConnection = True  # or else OpenSSL would say that the handshake has failed
        super().connectionLost(Failure(ConnectionDone()))


@contextmanager
def writing_by(transport: Connection, write: Callable[[], Exception | None]) -> Iterator[None]:
    """Have something else write to a plain connection, for the length of a block.

    Twisted's way to write more than it has in its own buffer is a producer, for which the reactor
    stops watching the connection and begins again, each time.

    :param write: is called whenever the connection takes more and nothing of what Twisted was given
        is left; returns an exception to have the connection closed.
    """

    def do_write() -> Any:
        if transport.dataBuffer or transport._tempDataBuffer:
            fault: Any = type(transport).doWrite(transport)
            transport.startWriting()  # it stops when all has left
            return fault
        return write()

    transport.doWrite = do_write  # type: ignore[method-assign]
    transport.startWriting()
    try:
        yield
    finally:
        transport.__dict__.pop("doWrite", None)  # Twisted has its own there if it aborts
