"""Bodies of responses, whose connections are closed at once when nobody wants the rest."""

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone


def abort(transport: Any) -> None:
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
    response.deliverBody(_Unwanted())


def read_body(response: Any) -> "Deferred[bytes]":
    """A whole body; cancelling it closes the connection, which treq and Twisted leave open."""
    body = _Whole()
    response.deliverBody(body)
    return body.finished


class _Unwanted(Protocol):
    """Takes nothing."""

    def connectionMade(self) -> None:
        abort(self.transport)


class _Whole(Protocol):
    """Collects a body."""

    def __init__(self) -> None:
        self.finished: Deferred[bytes] = Deferred(lambda _: abort(self.transport))
        self._pieces: list[bytes] = []

    def dataReceived(self, data: bytes) -> None:
        self._pieces.append(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.finished.called:
            return
        if reason.check(ResponseDone):
            self.finished.callback(b"".join(self._pieces))
        else:
            self.finished.errback(reason)
