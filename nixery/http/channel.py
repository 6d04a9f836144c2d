"""HTTP/1.1 connections that are bounded: in time, in bytes and in number."""

import socket
from typing import Any, Protocol

from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure
from twisted.web.http import Request

from nixery.http.answers import RETRY_AFTER
from nixery.http.bounds import LEAST, Bounds
from nixery.http.connections import NO_ROOM
from nixery.http.framing import (
    BODY_TOO_LARGE,
    MALFORMED,
    TOO_SLOW,
    Refusal,
    RequestHead,
    body_fault,
    opening_fault,
)
from nixery.http.request import (
    Address,
    BodyTooLarge,
    RequestBody,
    Trusted,
    new_id,
    peer_address,
    split_target,
)
from nixery.http.twisted_private import OpenChannel
from nixery.model.networks import network_of

_log = Logger()

LINGER = 2.0
"""Seconds in which a client may read why it was refused, while what it sends is dropped."""
LAST_CALL = 3.0
"""Seconds in which a request must come on a connection that was made before the daemon stops."""
_ON_ITS_WAY = 0.1
"""The same where a request was answered before: seconds for what has been sent already."""
_MOST_PIECES = 16
_NOT_SENT = 128 * 1024
"""Bytes of a connection that the kernel holds besides those that are on their way."""


class IBoundedSite(Protocol):
    """The parts of a site that a channel needs."""

    bounds: Bounds
    trusted: Trusted
    stopping: bool

    def body_for(self, target: bytes) -> RequestBody:
        """What takes the body of a request.

        :param target: its path and query.
        """


class BoundedChannel(OpenChannel):
    """A connection, which is either idle, or being answered, or about to close.

    It is idle until a whole request has come, and again once the answer has left. All that time a
    timer runs: Twisted's own would start anew with every byte that comes. While it is answered,
    the kernel watches that the client takes what is sent.

    Many clients try TLS first even with registries on localhost. A handshake, which has no line
    end, is answered at once with a refusal in plain HTTP: those that are written in Go fall back
    to plain HTTP if, and only if, the answer begins with ``HTTP/``.
    """

    site: IBoundedSite

    _fresh = True
    _begun = False  # some of a request has come
    _closing = False  # what comes is dropped
    _turn: IDelayedCall | None = None

    def connectionMade(self) -> None:
        """Take the connection, or turn it away."""
        limits = self.site.bounds.limits
        self.limit_head(limits.header_size)
        super().connectionMade()  # type: ignore[no-untyped-call]
        _limit_writes(self.transport, limits.write_seconds)
        self._head = RequestHead(limits.header_size)
        reason = self.site.bounds.connections.admit(self, self._client())
        if reason is None:
            self._allow(self._head_seconds)
        else:
            self._turn_away(reason)

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        """Forget the connection."""
        self._closing = True
        self.site.bounds.connections.gone(self)
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None
        super().connectionLost(reason)  # type: ignore[no-untyped-call]

    def dataReceived(self, data: bytes) -> None:
        """Take bytes, which may be part of a request."""
        if self._closing:
            return
        self._fresh = False
        if not self._begun:
            self._begin()
            refusal = opening_fault(data)
            if refusal is not None:
                self._refuse(refusal)
                return
        self.read(data)

    def lineReceived(self, line: bytes) -> None:
        """Take a line of a request's head."""
        refusal = self._head.take(line)
        if refusal is None:
            super().lineReceived(line)  # type: ignore[no-untyped-call]
        else:
            self._refuse(refusal)

    def lineLengthExceeded(self, line: bytes) -> None:
        """Refuse a line that is too long."""
        self._refuse(self._head.too_long())

    def allHeadersReceived(self) -> None:
        """Go on to the body, if there may be one like it."""
        request: Any = self.requests[-1]
        request.body = self.site.body_for(split_target(self.asked_target)[1])
        refusal = body_fault(self.http_version, self.length, request.body.most)
        if refusal is None:
            super().allHeadersReceived()  # type: ignore[no-untyped-call]
        else:
            self._refuse(refusal)

    def rawDataReceived(self, data: bytes) -> None:
        """Take a piece of a body, or of the requests behind the one that is being answered."""
        try:
            super().rawDataReceived(data)
        except BodyTooLarge:
            self._refuse(BODY_TOO_LARGE)
        self.join_pieces(_MOST_PIECES)

    def allContentReceived(self) -> None:
        """Have the request answered."""
        self._allow(None)
        self.site.bounds.connections.works(self)
        super().allContentReceived()  # type: ignore[no-untyped-call]

    def checkPersistence(self, request: Request, version: bytes) -> bool:
        """Whether the connection is kept for another request."""
        if self.site.stopping or self.site.bounds.connections.is_reserved(self):
            request.setHeader(b"Connection", b"close")
            return False
        return bool(super().checkPersistence(request, version))  # type: ignore[no-untyped-call]

    def requestDone(self, request: Request) -> None:
        """Turn to the next request, not at once: others have their turn first."""
        self.paused = True
        super().requestDone(request)  # type: ignore[no-untyped-call]
        if not self.persistent:
            self._closing = True
        if not self._closing:
            self._head = RequestHead(self.site.bounds.limits.header_size)
            self._begun = False
            self._after_answer()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Take a producer; one that comes while what was written has not left has to wait.

        The transport says that it is full only when something is written to it: of many producers,
        one after the other, each would write a piece.
        """
        super().registerProducer(producer, streaming)  # type: ignore[no-untyped-call]
        if self.is_full:
            producer.pauseProducing()

    def resumeProducing(self) -> None:
        """Go on, now that what was written has left."""
        super().resumeProducing()
        if self.paused and not self._closing:
            self._after_answer()

    def timeoutConnection(self) -> None:
        """Close, since the client has used up its time."""
        if self._closing:
            self.transport.abortConnection()
        elif self._begun:
            self._refuse(TOO_SLOW)
        else:
            self._close()

    def loseConnection(self) -> None:
        """Close as soon as everything has left; TLS would wait for the client to agree."""
        super().loseConnection()  # type: ignore[no-untyped-call]
        below = getattr(self.transport, "transport", None)
        if below is not None:
            below.loseConnection()

    @property
    def sends(self) -> bool:
        """Whether an answer is on its way, which would be cut."""
        begun = any(request.startedWriting for request in self.requests)
        return self._closing or bool(self.paused) or begun

    def make_room(self) -> None:
        """Close for another. What an answer has open goes at once."""
        if self.requests:
            self._closing = True
            self.transport.abortConnection()
        else:
            self._close()
            self._allow(LINGER)

    def retire(self) -> None:
        """Close the connection, after the answer to what the client has asked, or asks now.

        It may have sent its request before it could know that no more are taken. So one that has
        come in part is waited for, like the first of a connection; later ones are not, since
        clients send those again that were lost with a connection on which others were answered.
        """
        for request in self.requests:
            self.persistent = False
            request.setHeader(b"Connection", b"close")
        if self._closing or self.timeOut is None:
            return  # it is about to close, or an answer is on its way
        self._allow(self._head_seconds if self._begun or self._fresh else self._idle_seconds)

    @property
    def _head_seconds(self) -> float:
        """The time in which a whole request must arrive."""
        allowed = self.site.bounds.limits.header_seconds
        return min(allowed, LAST_CALL) if self.site.stopping else allowed

    @property
    def _idle_seconds(self) -> float:
        """The time in which another request must begin."""
        return _ON_ITS_WAY if self.site.stopping else self.site.bounds.limits.idle_seconds

    def _client(self) -> str | None:
        """The client, if the limit of one client applies to it."""
        return bounded_client(peer_address(self.transport.getPeer()), self.site.trusted)

    def _allow(self, seconds: float | None) -> None:
        """Set the time from now on until :meth:`timeoutConnection`; none for no end."""
        # A new timer: to have one sooner, Twisted looks through the timers of all connections.
        if self.timeOut is not None:
            self.setTimeout(None)  # type: ignore[no-untyped-call]
        if seconds is not None:
            self.setTimeout(seconds)  # type: ignore[no-untyped-call]

    def _begin(self) -> None:
        """The first byte of a request is here."""
        self._begun = True
        self.site.bounds.connections.rests(self)
        self._allow(self._head_seconds)

    def _after_answer(self) -> None:
        """Take the next request, or wait for one; not before the answer has left, though.

        Otherwise a client could have any number of answers pile up here.
        """
        if self.is_full or self.has_unread:
            self.pause_reading()
            if not self.is_full and self._turn is None:
                self._turn = self.callLater(0, self._go_on)  # type: ignore[no-untyped-call]
            return
        self.paused = False
        if self.reading_paused:
            self.resume_reading()
        self.site.bounds.connections.rests(self)
        self._allow(self._idle_seconds)

    def _go_on(self) -> None:
        """Read the request that came together with the one before."""
        self._turn = None
        self.paused = False
        self._begin()
        self.resume_reading()
        self.read(b"")

    def malformed(self) -> None:
        """Refuse what Twisted finds to be no request."""
        self._refuse(MALFORMED)

    def _refuse(self, refusal: Refusal) -> None:
        """Answer, then close once the client has stopped sending, or it would miss the answer."""
        if self._closing:
            return
        self._closing = True
        self.site.bounds.refused[refusal.reason] += 1
        self.stop_reading_requests()
        self.transport.write(refusal.to_bytes(self._note(refusal)))
        self._allow(LINGER)
        if self.isSecure():  # type: ignore[no-untyped-call]
            self.transport.loseConnection()  # TLS says so, and still reads
        else:
            self.transport.loseWriteConnection()

    def _note(self, refusal: Refusal) -> str:
        """Log a refusal, without anything of what was refused.

        :return: an ID for the request.
        """
        id, peer = new_id(), peer_address(self.transport.getPeer())
        _log.emit(
            LogLevel.debug if refusal.usual else LogLevel.info,
            "{request} for {client}: refused, {status}: {why}",
            request=id,
            client="unix" if peer is None else str(peer),
            status=refusal.status,
            why=refusal.message,
        )
        return id

    def _turn_away(self, reason: str) -> None:
        """Close a connection that there is no room for."""
        if not self.isSecure():  # type: ignore[no-untyped-call]
            self.transport.write(no_room(reason).to_bytes(new_id()))
        self._close()
        self._allow(LINGER)

    def _close(self) -> None:
        self._closing = True
        self.loseConnection()


def bounded_client(address: Address | None, trusted: Trusted) -> str | None:
    """The client at an address, if the limit of one client applies to it.

    :param address: none for a UNIX socket.
    """
    return None if address is None or address in trusted else network_of(str(address))


def no_room(reason: str) -> Refusal:
    """The answer on a connection that there is no room for."""
    if reason == NO_ROOM:
        return Refusal(reason, 503, "UNAVAILABLE", "too many connections", RETRY_AFTER)
    message = "too many connections from your address"
    return Refusal(reason, 429, "TOOMANYREQUESTS", message, RETRY_AFTER)


def _limit_writes(transport: Any, seconds: float) -> None:
    """Keep buffers small, and have the kernel end a TCP connection whose client takes nothing.

    Only the kernel sees what the client takes: a buffer that is full here says little, since it
    gets room in big steps. UNIX sockets have no such limit: proxies of this machine are at them.
    """
    below = getattr(transport, "transport", transport)  # of TLS
    below.bufferSize = LEAST
    handle = below.getHandle() if hasattr(below, "getHandle") else None
    if isinstance(handle, socket.socket) and handle.family != socket.AF_UNIX:
        # Bytes that can't leave yet are in our hands rather than the kernel's, which has a lot
        # of room for each connection.
        handle.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _NOT_SENT)
        milliseconds = max(1, round(seconds * 1000))
        handle.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
