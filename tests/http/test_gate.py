"""Answers that are written as the client takes them, on real connections and on made-up ones."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock, deferLater
from twisted.internet.threads import deferToThread

from nixery.http.bounds import LEAST, MOST, Bounds
from nixery.http.fair import FairTurns
from nixery.http.gate import send_body, send_pieces
from nixery.model.events import BuildStarted
from nixery.model.limits import HttpLimits
from nixery.model.service_errors import TooMuchUnread
from tests.history.histories import begin, open_history
from tests.http.test_channel import BLOB, crowd
from tests.waiting import until
from tests.web.server import Locating, as_it_is, serving

reactor: Any = _reactor

SMALL = HttpLimits(unread=4 * LEAST, client_unread=2 * LEAST)


class Asked:
    """A request whose connection takes what the test lets it take."""

    method = b"GET"
    network = "192.0.2.1"

    def __init__(self, limits: HttpLimits = SMALL) -> None:
        self.channel = self.site = self
        self.bounds = Bounds(limits)
        self.written: list[bytes] = []
        self.headers: dict[bytes, bytes] = {}
        self.producer: Any = None

    def setHeader(self, name: bytes, value: bytes) -> None:
        self.headers[name] = value

    def write(self, data: bytes) -> None:
        self.written.append(data)
        if self.producer is not None:
            self.producer.pauseProducing()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None

    def take(self) -> None:
        """Take what was written."""
        self.producer.resumeProducing()


def lines(number: int, made: list[int]) -> Iterator[bytes]:
    """Numbered lines, which are noted when they are made."""
    for line in range(number):
        made.append(line)
        yield b"%999d\n" % line


@pytest_twisted.ensureDeferred
async def test_nothing_is_made_in_advance() -> None:
    """No more of a list is made than a piece that the client may have, and then the next."""
    asked: Any = Asked()
    clock: Any = Clock()
    made: list[int] = []
    sending = Deferred.fromCoroutine(send_pieces(asked, lines(100, made), FairTurns(clock)))
    pieces = 0
    while not sending.called:
        pieces += 1
        assert len(asked.written) == pieces
        assert len(made) <= pieces * (LEAST // 1000 + 1)
        asked.take()
        clock.advance(0)
    await sending
    assert b"".join(asked.written) == b"".join(lines(100, []))
    assert asked.producer is None


@pytest_twisted.ensureDeferred
async def test_turns_are_short() -> None:
    """Whatever room there is for a client, little is made for it in one turn."""
    asked: Any = Asked(HttpLimits())
    clock: Any = Clock()
    made: list[int] = []
    sending = Deferred.fromCoroutine(send_pieces(asked, lines(200, made), FairTurns(clock)))
    assert 0 < len(made) < 50
    while not sending.called:
        before = len(made)
        asked.take()
        clock.advance(0)
        assert len(made) - before < 50
    await sending
    assert b"".join(asked.written) == b"".join(lines(200, []))


@pytest_twisted.ensureDeferred
async def test_wholes_are_counted_until_they_are_taken() -> None:
    """A whole answer is counted, and sent in pieces; others are refused where it leaves no room."""
    asked: Any = Asked()
    body = bytes(range(256)) * (3 * LEAST // 256)
    sending = Deferred.fromCoroutine(send_body(asked, body))
    assert asked.written == [body[:LEAST]]
    with pytest.raises(TooMuchUnread):
        await send_body(asked, body)
    while not sending.called:
        asked.take()
    await sending
    assert b"".join(asked.written) == body
    assert asked.bounds.untaken.total == 0
    assert asked.headers[b"Content-Length"] == b"%d" % len(body)


@pytest_twisted.ensureDeferred
async def test_small_answers_are_never_refused() -> None:
    """What any connection may have is sent whatever others have not taken."""
    asked: Any = Asked(HttpLimits(unread=0, client_unread=0))
    await send_body(asked, b"x" * LEAST)
    assert asked.written == [b"x" * LEAST]


@pytest_twisted.ensureDeferred
async def test_clients_that_have_left() -> None:
    """Nothing is begun for a client that has left."""
    asked: Any = Asked()
    asked.channel = None
    with pytest.raises(CancelledError):
        await send_body(asked, b"x" * 2 * LEAST)
    assert (asked.written, asked.bounds.untaken.total) == ([], 0)


# --- on real connections ----------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_blobs_that_nobody_reads(tmp_path: Path) -> None:
    """However many connections leave a blob unread, what is in memory stays in its bound, and
    others get theirs whole; when they have left, nothing is counted."""
    path = tmp_path / "blob"
    content = bytes(range(256)) * 80_000
    path.write_bytes(content)
    limits = HttpLimits(unread=2 * MOST, client_unread=MOST)
    storage = Locating(location=as_it_is(path))
    async with serving(storage=storage, limits=limits, wrapped=True) as server:
        with crowd(server) as others:
            for _ in range(60):
                await deferToThread(others.join, BLOB)
            await until(lambda: server.bounds.requests.running == 60)
            assert (await server.ask(BLOB.split()[1].decode())).body == content
            assert server.bounds.untaken.total <= MOST
        await until(lambda: server.bounds.requests.running == 0)
        assert server.bounds.untaken.total == 0


@pytest_twisted.ensureDeferred
async def test_busy(tmp_path: Path) -> None:
    """Where there is no room for a document, it is refused for now, to programs and to people."""
    history = await open_history(tmp_path)
    record = begin(history)
    for number in range(200):
        record.emit(BuildStarted(f"derivation-with-a-long-name-{number}"))
    limits = HttpLimits(unread=LEAST, client_unread=LEAST)
    async with serving(history=history, limits=limits) as server:
        path = f"/builds/{record.id}"
        program = await server.ask(path)
        person = await server.ask(path, headers={"Accept": "text/html"})
        assert (program.status, person.status) == (503, 503)
        assert program.error()["code"] == "UNAVAILABLE"
        assert b"try again" in person.body
        assert {"retry-after"} <= program.headers.keys() & person.headers.keys()
        assert (await server.ask("/builds")).status == 200
        assert (await server.ask("/")).status == 200
    record.done("sha256:x")
    await history.stop()


@pytest_twisted.ensureDeferred
async def test_lists_that_nobody_reads(tmp_path: Path) -> None:
    """A long list is sent as it is read, errors in it are short, and one build has its whole."""
    history = await open_history(tmp_path)
    error = "it failed\n" + "x" * 5000
    for _ in range(60):
        record = begin(history)
        record.failed(error)
    await deferLater(reactor, 0)
    async with serving(history=history) as server:
        builds = json.loads((await server.ask("/builds?n=1000")).body)
        assert len(builds) == 60
        assert {len(build["error"]) for build in builds} == {300}
        one = json.loads((await server.ask(f"/builds/{builds[0]['id']}")).body)
        assert one["error"] == error
    await history.stop()
