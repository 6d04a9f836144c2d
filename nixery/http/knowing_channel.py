"""HTTP/1.1 connections on which what is known is answered before a request is made of it."""

from contextlib import ExitStack
from functools import partial
from math import inf
from typing import Any

from twisted.python.failure import Failure
from twisted.web.http_headers import Headers

from nixery.http.asked_head import AskedHead, HeadReader
from nixery.http.bounds import LEAST
from nixery.http.channel import BoundedChannel, IBoundedSite
from nixery.http.known_answers import KnownAnswer, KnownAnswers
from nixery.http.request import peer_address


class IKnowingSite(IBoundedSite):
    """The parts of a site that such a channel needs."""

    known: KnownAnswers


class KnowingChannel(BoundedChannel):
    """A connection that gives the answers that are known, and keeps others that may be.

    A request that has come whole and alone, while nothing else was under way, is looked up; every
    other, and those whose answers are not known, go the way of :class:`BoundedChannel`.
    """

    site: IKnowingSite

    _reader: HeadReader | None = None
    _asked: AskedHead | None = None  # of the request that is being answered
    _written: list[bytes] | None = None  # of its answer, if that may be kept
    _held = b""  # a request that waits for its turn, and what came behind it
    _rested = -inf  # since when nothing is being answered

    def connectionMade(self) -> None:
        """Take the connection, or turn it away."""
        self._unsent = ExitStack()  # counts what is known that the client has not taken
        super().connectionMade()

    def dataReceived(self, data: bytes) -> None:
        """Take bytes, which may be a request whose answer is known."""
        if self._held:
            self._held += data
            return
        self._asked = self.reader.read(data) if self._is_at_rest else None
        if self._asked is None or not self._answer(self._asked, data):
            super().dataReceived(data)

    def writeHeaders(self, version: bytes, code: bytes, reason: bytes, headers: Headers) -> None:
        """Write the head of an answer, which is kept if it may be."""
        fields = headers.getAllRawHeaders()
        lines = [b"%b: %b" % (name, value) for name, values in fields for value in values]
        head = b"\r\n".join([b" ".join([version, code, reason]), *lines, b"", b""])
        request: Any = self.requests[0]
        self._written = [head] if self._asked is not None and request.again is not None else None
        self.transport.write(head)

    def write(self, data: bytes) -> None:
        """Write some of the body of an answer."""
        if self._written is not None:
            self._written.append(data)
        super().write(data)  # type: ignore[no-untyped-call]

    def requestDone(self, request: Any) -> None:
        """Keep the answer, if it may be, and turn to the next request."""
        asked, written = self._asked, self._written
        self._asked = self._written = None
        if asked is not None and written is not None and not self.site.stopping:
            self.site.known.keep(asked, request, written, closes=not self.persistent)
        super().requestDone(request)

    def resumeProducing(self) -> None:
        """Go on, now that what was written has left."""
        self._unsent.close()
        super().resumeProducing()

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        """Forget the connection."""
        self._unsent.close()
        super().connectionLost(reason)

    def timeoutConnection(self) -> None:
        """Close, unless the client was answered since its time began."""
        left = self._rested + self._idle_seconds - self.site.known.seconds()
        if self._begun or self._closing or left <= 0:
            super().timeoutConnection()
        else:
            self._allow(left)

    @property
    def _is_at_rest(self) -> bool:
        """Whether nothing was under way, so that an answer may leave at once."""
        busy = self._closing or self._begun or self.paused or self.has_unread or self.has_unsent
        is_last = self.site.stopping or self.site.bounds.connections.is_reserved(self)
        return not busy and not is_last

    @property
    def reader(self) -> HeadReader:
        """Reads the heads of its requests."""
        if self._reader is None:
            peer = peer_address(self.transport.getPeer())
            is_secure: bool = self.isSecure()  # type: ignore[no-untyped-call]
            most = self.site.bounds.limits.header_size
            self._reader = HeadReader(peer, is_secure, self.site.trusted, most)
        return self._reader

    def _answer(self, asked: AskedHead, data: bytes) -> bool:
        """Answer a request with what is known, now or in its client's turn.

        :param data: the request.
        :return: whether that is done, or will be.
        """
        known = self.site.known
        answer = known.find(asked)
        if answer is None:
            return False
        began = known.seconds()
        if not known.starts.has_time(known.requests.of(asked.network) + 1):
            self._wait(answer, asked, data, began)
            return True
        done = self._give(answer, asked, began)
        known.starts.spend(known.seconds() - began)
        return done

    def _give(self, answer: KnownAnswer, asked: AskedHead, began: float) -> bool:
        """Give an answer, if it holds.

        :param began: when its request had come.
        :return: whether it does.
        """
        known, size = self.site.known, len(answer.body)
        if not self._has_room(asked.network, size) or not known.holds(answer, asked):
            return False
        self._rested = known.give(answer, asked, began, self.send)
        self._given(asked.network, size, answer.closes)
        return True

    def _has_room(self, network: str, size: int) -> bool:
        """Whether there is room for so many bytes, if a client takes them slowly."""
        return size <= LEAST or size <= self.site.bounds.untaken.room(network)

    def _given(self, network: str, size: int, closes: bool) -> None:
        """Go on behind an answer that was given.

        :param size: bytes of it that may have to wait here.
        :param closes: whether the connection ends with it.
        """
        bounds = self.site.bounds
        if self.is_full:
            self._unsent.enter_context(bounds.untaken.piece(network, size))
        if closes or self.is_full:
            self._allow(None)
            bounds.connections.works(self)
            if closes:
                self._close()
            else:
                self.paused = True  # until the answer has left
            return
        bounds.connections.rested_again(self)
        if self._fresh or self.timeOut is None:
            self._allow(self._idle_seconds)
        self._fresh = False

    def _wait(self, answer: KnownAnswer, asked: AskedHead, data: bytes, began: float) -> None:
        """Have a request wait for its client's turn; no other is read meanwhile."""
        known = self.site.known
        self._fresh, self._held = False, data
        self._allow(None)
        self.site.bounds.connections.works(self)
        self.pause_reading()
        known.requests.begin(asked.network, always=True)
        running = known.requests.of(asked.network)
        turn = partial(self._take_turn, answer, asked, data, began)
        known.starts.later(asked.network, running, turn)

    def _take_turn(self, answer: KnownAnswer, asked: AskedHead, data: bytes, began: float) -> None:
        """Answer a request that has waited, unless its client has left."""
        known = self.site.known
        known.requests.end(asked.network)
        if self._closing:
            known.left(answer, asked, began)
            return
        held, self._held = self._held, b""
        self.resume_reading()
        self.site.bounds.connections.rests(self)
        if held != data or self.site.stopping or not self._give(answer, asked, began):
            super().dataReceived(held)
