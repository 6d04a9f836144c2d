"""Bodies of HTTP answers, whose connections are closed at once when nobody wants the rest."""

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer, IDelayedCall, IPushProducer, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from zope.interface import implementer

_LONGEST_SILENCE = 30.0  # seconds
_MOST = 16 * 1024 * 1024
"""Bytes of a body that is kept whole: several times those of the largest manifest."""


def _abort(transport: Any) -> None:
    """Close the connection of a body that is not read to its end; harmless if it has ended.

    :param transport: of a protocol that a response's body is delivered to. It is Twisted's proxy
        for the connection, and can only ask it to close: TLS would then wait for the other side,
        which waits for somebody to read the rest.
    """
    connection = transport._producer
    if connection is not None:
        connection.abortConnection()


def abandon(response: Any) -> None:
    """Close the connection of a response whose body nobody wants."""
    reading = read_body(response).addErrback(lambda _: None)
    reading.cancel()


def read_body(response: Any) -> "Deferred[bytes]":
    """A whole body; cancelling it closes the connection, which treq and Twisted leave open.

    It fails with ``ValueError`` if it is larger than any that is asked for.
    """
    body = _Whole()
    response.deliverBody(body)
    return body.finished


class _Whole(Protocol):
    """Collects a body."""

    def __init__(self) -> None:
        self.finished: Deferred[bytes] = Deferred(lambda _: _abort(self.transport))
        self._pieces: list[bytes] = []
        self._size = 0

    def dataReceived(self, data: bytes) -> None:
        self._size += len(data)
        if self._size <= _MOST:
            self._pieces.append(data)
        elif not self.finished.called:
            self.finished.errback(ValueError(f"the answer has more than {_MOST:,} bytes"))
            _abort(self.transport)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.finished.called:
            return
        if reason.check(ResponseDone):
            self.finished.callback(b"".join(self._pieces))
        else:
            self.finished.errback(reason)


@implementer(IPushProducer)
class BodyCopy(Protocol):
    """Passes on what arrives, up to a number of bytes.

    :ivar finished: fires when there is no more, whether or not it was all.
    """

    def __init__(self, clock: IReactorTime, consumer: IConsumer, most: int) -> None:
        self.copied = 0
        self.stopped = False
        self.finished: Deferred[None] = Deferred(lambda _: self._end())
        self._clock = clock
        self._consumer = consumer
        self._most = most
        self._silence: IDelayedCall | None = None
        self._registered = False

    def connectionMade(self) -> None:
        self._registered = True
        self._listen()
        self._consumer.registerProducer(self, True)

    def dataReceived(self, data: bytes) -> None:
        piece = data[: self._most - self.copied]
        self.copied += len(piece)
        if self._silence is not None:
            self._silence.reset(_LONGEST_SILENCE)
        if piece and self._registered:
            self._consumer.write(piece)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._leave()
        if not self.finished.called:
            self.finished.callback(None)

    def pauseProducing(self) -> None:
        self._rest()
        self._producer.pauseProducing()

    def resumeProducing(self) -> None:
        self._listen()
        self._producer.resumeProducing()

    def stopProducing(self) -> None:
        self.stopped = True
        self._end()
        if not self.finished.called:
            self.finished.callback(None)

    @property
    def _producer(self) -> IPushProducer:
        assert self.transport is not None
        return self.transport  # type: ignore[return-value]  # what deliverBody gives is one

    def _leave(self) -> None:
        self._rest()
        if self._registered:
            self._registered = False
            self._consumer.unregisterProducer()

    def _end(self) -> None:
        if self.transport is not None:
            _abort(self.transport)
        self._leave()

    def _listen(self) -> None:
        self._rest()
        self._silence = self._clock.callLater(_LONGEST_SILENCE, self._end)

    def _rest(self) -> None:
        silence, self._silence = self._silence, None
        if silence is not None and silence.active():
            silence.cancel()
