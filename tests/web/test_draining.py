"""The end of a server: nobody who has asked is left without an answer."""

from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure
from twisted.web.server import NOT_DONE_YET, Request

from nixery.http.channel import LAST_CALL
from nixery.model.service_errors import ShuttingDown
from nixery.web.holding import HURRY
from nixery.web.site import ANSWER, ASK_AGAIN, LAST_WORDS
from tests.history.histories import begin, moment, open_history
from tests.web.connected import HELD, VERSION, Connected
from tests.web.server import Collector, serving


class Draining(Connected):
    """A connection whose site is to stop."""

    def stop(self) -> None:
        self.released = Deferred.fromCoroutine(self.site.release(handover=False))
        self.drained = Deferred.fromCoroutine(self.site.drain())

    @property
    def is_over(self) -> bool:
        return bool(self.drained.called)

    @property
    def closing(self) -> int:
        """In how many answers the client reads that the connection is closed."""
        answers: bytes = self.transport.value()
        return answers.lower().count(b"connection: close")


def test_a_request_on_its_way() -> None:
    """The first request of a connection, and one that has come in part, are answered if they
    come soon, and the connection is closed then."""
    for already in range(len(VERSION)):
        connected = Draining()
        if already:
            connected.send(VERSION[:already])
        connected.stop()
        connected.clock.advance(LAST_CALL * 0.9)
        assert not connected.is_over
        connected.send(VERSION[already:])
        assert (connected.statuses, connected.closing) == ([200], 1)
        assert connected.is_over
        assert connected.timers == 0


@pytest.mark.parametrize(("sent", "statuses"), [(b"", []), (VERSION[:20], [408])])
def test_requests_that_do_not_come(sent: bytes, statuses: list[int]) -> None:
    """A connection on which nothing comes is not waited for, however much time requests have."""
    connected = Draining()
    if sent:
        connected.send(sent)
    connected.stop()
    connected.clock.advance(LAST_CALL * 0.9)
    if sent:
        connected.send(VERSION[len(sent) :][:1])
    assert not connected.is_over
    connected.clock.advance(LAST_CALL)
    assert connected.statuses == statuses
    connected.clock.advance(LAST_CALL)
    assert connected.is_over
    assert connected.timers == 0


def test_kept_connections() -> None:
    """A connection that was kept for more is closed in a moment; what was sent until then is
    answered."""
    kept, used = Draining(), Draining()
    for connected in (kept, used):
        connected.send(VERSION)
        connected.stop()
        assert not connected.is_over
    used.send(VERSION[:-1])
    for connected in (kept, used):
        connected.clock.advance(1)
    assert (kept.is_over, used.is_over) == (True, False)
    used.send(VERSION[-1:])
    assert (used.statuses, used.closing, used.is_over) == ([200, 200], 1, True)


def test_answers_that_leave_slowly() -> None:
    """An answer is waited for until the client has taken it, not only until it is written."""
    connected = Draining()
    connected.channel.pauseProducing()  # says the transport, being full
    connected.send(VERSION)
    assert connected.statuses == [200]
    connected.stop()
    connected.clock.advance(1000)
    assert not connected.is_over
    connected.channel.resumeProducing()
    connected.clock.advance(1)
    assert connected.is_over


def test_held_requests() -> None:
    """A request that waits for its image is let go at once, and the connection closed behind it."""
    connected = Draining()
    connected.builder.gate = Deferred()
    connected.send(HELD)
    connected.stop()
    assert (connected.statuses, connected.closing, connected.is_over) == ([503], 1, True)
    assert b"Retry-After: " in connected.transport.value()
    assert not connected.released.called  # docker asks once more
    connected.clock.advance(ASK_AGAIN)
    assert connected.released.called
    assert connected.timers == 0


def test_what_is_known_is_answered() -> None:
    """A request that comes while the server stops is answered if it needs no build, and is not
    held if it does."""
    for gate, status in ((None, 200), (Deferred[None](), 503)):
        connected = Draining()
        connected.stop()
        connected.builder.gate = gate
        connected.send(HELD)
        connected.clock.advance(HURRY)
        assert (connected.statuses, connected.is_over) == ([status], True)
        assert connected.timers == 0


def test_answers_that_do_not_come() -> None:
    """Who asks what takes long, and has got nothing of an answer yet, is not waited for."""
    connected = Draining()
    connected.site.resource.render = lambda request: NOT_DONE_YET
    connected.send(VERSION)
    connected.stop()
    assert not connected.is_over
    connected.clock.advance(ANSWER)
    assert connected.is_over
    connected.channel.connectionLost(Failure(ConnectionDone()))
    assert connected.timers == 0


def test_answers_on_their_way() -> None:
    """Who has got a part of an answer is waited for until it has the rest."""
    connected = Draining()
    asked: list[Request] = []

    def begin(request: Request) -> int:
        request.write(b"some")
        asked.append(request)
        return NOT_DONE_YET

    connected.site.resource.render = begin
    connected.send(VERSION)
    connected.stop()
    connected.clock.advance(100 * ANSWER)
    assert not connected.is_over
    asked[0].finish()
    assert connected.is_over


@pytest_twisted.ensureDeferred
async def test_streams_are_not_waited_for(tmp_path: Path) -> None:
    """The events of a build that goes on are not waited for."""
    history = await open_history(tmp_path)
    record = begin(history, "git/jq")
    async with serving(history=history) as server:
        listener = await server.connect(Collector())
        asked = f"GET /builds/{record.id}/events HTTP/1.1\r\nHost: x\r\n\r\n"
        listener.transport.write(asked.encode())  # type: ignore[union-attr]
        while b"200 OK" not in listener.received:
            await moment()
        await server.site.release(handover=False)
        await server.site.drain()
        assert not listener.closed.called
        record.done("sha256:x")
        assert b"sha256:x" in await listener.closed
    await history.stop()


@pytest_twisted.ensureDeferred
async def test_handed_over() -> None:
    """When another daemon takes over, those who wait are sent there at once; the connection is
    not kept, so that they reach it."""
    async with serving(hold=60) as server:
        server.builder.gate = Deferred()
        asking = Deferred.fromCoroutine(server.ask("/v2/a/manifests/latest"))
        await server.until(lambda: len(server.builder.asked) == 1)
        await server.site.release(handover=True)
        await server.site.drain()
        answer = await asking
        assert (answer.status, answer.headers["connection"]) == (307, "close")
        again = await server.ask(answer.headers["location"])
        assert (again.status, again.headers["connection"]) == (307, "close")


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("agent", "handover", "status", "retry"),
    [
        ("docker/26.1", True, 503, "10"),
        ("containerd/v2.1", True, 429, "1"),
        ("containerd/v2.1", False, 503, "10"),
    ],
)
async def test_the_last_hop(agent: str, handover: bool, status: int, retry: str) -> None:
    """Who follows no more redirects is told to ask again, in the way that its client knows."""
    async with serving(hold=60) as server:
        server.builder.gate = Deferred()
        path, headers = "/v2/a/manifests/latest?nixery-hop=9", {"User-Agent": agent}
        asking = Deferred.fromCoroutine(server.ask(path, headers=headers))
        await server.until(lambda: len(server.builder.asked) == 1)
        await server.site.release(handover)
        await server.site.drain()
        answer = await asking
        assert (answer.status, answer.headers["retry-after"]) == (status, retry)


@pytest_twisted.ensureDeferred
async def test_builds_that_are_given_up() -> None:
    """Who is told by its build that the daemon stops is sent on, if there is another one."""
    async with serving(hold=60) as server:
        server.builder.error = ShuttingDown()
        await server.site.release(handover=True)
        await server.site.drain()
        answer = await server.ask("/v2/a/manifests/latest")
        assert answer.status == 307


@pytest_twisted.ensureDeferred
async def test_last_words() -> None:
    """The end of the server waits until what was written has left, and not for ever."""
    connected = Draining()
    connected.stop()
    leaving = Deferred.fromCoroutine(connected.site.leave())
    assert not leaving.called
    connected.clock.advance(LAST_WORDS)
    await leaving
    connected.channel.connectionLost(Failure(ConnectionDone()))
    await connected.site.leave()
