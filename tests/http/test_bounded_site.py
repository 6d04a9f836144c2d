"""Answers that are ready when they are, to clients who may have left by then."""

import gc
from typing import Any
from weakref import ref

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure
from twisted.web.server import NOT_DONE_YET

from nixery.http.bounded_site import AnsweringResource


class Answer:
    """Something that a handler has in its hands."""


class Asked:
    """A request whose client may leave."""

    method = b"GET"

    def __init__(self) -> None:
        self.channel: Any = self
        self.written: list[bytes] = []
        self.finished = self.closed = False
        self.failures: list[type[BaseException] | type[None]] = []
        self._ends: list[Deferred[None]] = []

    def notifyFinish(self) -> "Deferred[None]":
        self._ends.append(Deferred())
        return self._ends[-1]

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def finish(self) -> None:
        assert self.channel is not None
        self.finished = True

    def loseConnection(self) -> None:
        self.closed = True

    def processingFailed(self, failure: Failure) -> None:
        self.failures.append(type(failure.value))

    def leave(self) -> None:
        """Have the client leave."""
        self.channel = None
        for each in self._ends:
            each.errback(Failure(ConnectionDone()))


def begin(answer: Any) -> Asked:
    asked: Any = Asked()
    assert AnsweringResource(answer).render(asked) is NOT_DONE_YET
    made: Asked = asked
    return made


def test_nothing_stays() -> None:
    """When a client leaves, all that its handler had is gone, without a search for cycles."""
    left: list[ref[Answer]] = []

    async def build(waiting: "Deferred[None]") -> None:
        await waiting

    async def handle(asked: Asked) -> bytes:
        answer = Answer()
        left.append(ref(answer))
        await build(Deferred())
        return b"answered"

    gc.disable()
    try:
        asked = begin(handle)
        assert left[0]() is not None
        asked.leave()
        assert left[0]() is None
    finally:
        gc.enable()
    assert (asked.written, asked.finished, asked.failures) == ([], False, [])


def test_an_answer_that_comes_late() -> None:
    """An answer is sent when it is there, unless the client has left."""
    waiting: Deferred[bytes] = Deferred()

    async def handle(asked: Asked) -> bytes:
        return await waiting

    asked = begin(handle)
    assert not asked.finished
    waiting.callback(b"answered")
    assert (asked.written, asked.finished) == ([b"answered"], True)


def test_errors_while_the_client_waits() -> None:
    """Whatever goes wrong, a client that still waits is told."""

    async def handle(asked: Asked) -> bytes:
        raise ValueError("wrong")

    asked = begin(handle)
    assert (asked.closed, asked.failures) == (False, [ValueError])


def test_an_end_before_the_client_has_left() -> None:
    """A handler may learn that nobody reads before the request does: the connection ends."""

    async def handle(asked: Asked) -> bytes:
        raise CancelledError()

    asked = begin(handle)
    assert (asked.closed, asked.finished, asked.failures) == (True, False, [])
