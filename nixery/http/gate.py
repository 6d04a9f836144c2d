"""Writing no faster than a client takes it, and counting what it has not taken."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from nixery.http.bounds import LEAST, Untaken
from nixery.http.fair import FairTurns
from nixery.http.request import RegistryRequest

_MADE_AT_ONCE = 32 * 1024
"""Bytes that are made in one turn: a list's take a few milliseconds, in which all others wait."""


@implementer(IPushProducer)
class Gate:
    """Whether a request's connection takes more at the moment, and how much at once.

    :ivar client: whom the bytes are for.
    """

    def __init__(self, request: RegistryRequest, untaken: Untaken) -> None:
        self.client = request.network
        self._request = request
        self._untaken = untaken
        self._written = ExitStack()
        self._opened: Deferred[None] | None = None

    @property
    def is_open(self) -> bool:
        """Whether the connection takes more."""
        return self._opened is None

    @property
    def room(self) -> int:
        """The bytes of the next piece."""
        return self._untaken.room(self.client)

    def count(self, size: int) -> None:
        """Count a piece that is about to be in memory, until it has passed."""
        self._written.enter_context(self._untaken.piece(self.client, size))

    def write(self, data: bytes) -> None:
        """Count a piece, and write it."""
        self.count(len(data))
        self._request.write(data)

    async def passed(self) -> None:
        """Wait until the connection has taken what was written."""
        if self._opened is not None:
            await self._opened
        self._written.close()

    def close(self) -> None:
        """Write no more, and count nothing of what was written."""
        self._written.close()
        self._request.unregisterProducer()

    def pauseProducing(self) -> None:
        if self._opened is None:
            self._opened = Deferred()

    def resumeProducing(self) -> None:
        opened, self._opened = self._opened, None
        if opened is not None and not opened.called:
            opened.callback(None)

    def stopProducing(self) -> None:
        pass  # the client has left; the writer is cancelled in a moment


def untaken_of(request: RegistryRequest) -> Untaken:
    """The count of bytes that clients of a request's site have not taken."""
    untaken: Untaken = request.site.bounds.untaken  # type: ignore[union-attr]
    return untaken


@contextmanager
def gated(request: RegistryRequest) -> Iterator[Gate]:
    """The gate of a request's connection, for the length of a block.

    :raises CancelledError: if the client has left.
    """
    if request.channel is None:
        raise CancelledError()
    gate = Gate(request, untaken_of(request))
    request.registerProducer(gate, True)
    try:
        yield gate
    finally:
        gate.close()


async def send_body(request: RegistryRequest, body: bytes) -> None:
    """Send a body that is in memory, to a request whose other headers are set.

    :raises TooMuchUnread: if others that clients have not taken leave no room for it.
    """
    request.setHeader(b"Content-Length", b"%d" % len(body))
    if request.method == b"HEAD":
        return
    if len(body) <= LEAST:
        request.write(body)
        return
    counted = untaken_of(request).whole(request.network, len(body))
    with counted, gated(request) as gate:
        at = 0
        while at < len(body):
            piece = body[at : at + gate.room]
            at += len(piece)
            gate.write(piece)
            await gate.passed()


async def send_pieces(request: RegistryRequest, pieces: Iterator[bytes], turns: FairTurns) -> None:
    """Send a body that is made while it is sent, to a request whose headers are set.

    :param pieces: small ones; several are sent together.
    :param turns: at making them.
    """
    if request.method == b"HEAD":
        return
    with gated(request) as gate:
        while True:
            async with turns.turn(gate.client):
                gathered = _gather(pieces, min(gate.room, _MADE_AT_ONCE))
            if not gathered:
                return
            gate.write(gathered)
            await gate.passed()


def _gather(pieces: Iterator[bytes], room: int) -> bytes:
    """The next pieces, until they fill the room."""
    gathered, size = [], 0
    for piece in pieces:
        gathered.append(piece)
        size += len(piece)
        if size >= room:
            break
    return b"".join(gathered)
