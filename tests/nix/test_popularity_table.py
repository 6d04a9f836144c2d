# mypy: disable-error-code="import-untyped,untyped-decorator"
"""The popularity table: loaded in time, or from its copy, and replaced as a whole."""

import json
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.web.client import Agent

from nixery.model.service_errors import SourceUnavailable
from nixery.nix.popularity_table import LIMIT, PATIENCE, PATIENCE_WITH_COPY, PopularityTable
from tests.waiting import until

reactor: Any = _reactor

TABLE = {"libc-2.0": 12, "git-1.0": 3}
OTHER = {"libc-2.0": 1}


class Time(Clock):
    """A reactor whose time stands still."""

    def __getattr__(self, name: str) -> Any:
        return getattr(reactor, name)


class Server(Factory):
    """Answers each request with some bytes.

    :ivar answer: of the HTTP protocol.
    :ivar ends: whether the connection is closed then.
    """

    def __init__(self) -> None:
        self.answer = b""
        self.ends = True
        self.connected: list[Protocol] = []
        self.answered = 0
        self.asked: list[bytes] = []

    def buildProtocol(self, addr: object) -> Any:
        server = self

        class Answering(Protocol):
            def connectionMade(self) -> None:
                server.connected.append(self)

            def dataReceived(self, data: bytes) -> None:
                server.asked.append(data)
                self.transport.write(server.answer)  # type: ignore[union-attr]
                server.answered += 1
                if server.ends:
                    self.transport.loseConnection()  # type: ignore[union-attr]

            def connectionLost(self, reason: object = None) -> None:
                server.connected.remove(self)

        return Answering()


def answer(document: object, status: str = "200 OK") -> bytes:
    """An answer with a document, or with the bytes that stand for it."""
    content = document if isinstance(document, bytes) else json.dumps(document).encode()
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(content)}", "", ""]
    return "\r\n".join(lines).encode() + content


class World:
    """A server, and a table that is loaded from it at a time of the test's own."""

    def __init__(self, folder: Path) -> None:
        self.server = Server()
        self.port = reactor.listenTCP(0, self.server, interface="127.0.0.1")
        self.copy = folder / "state" / "popularity.json"
        self.clock: Any = Time()
        self.url = f"http://127.0.0.1:{self.port.getHost().port}/table"
        self.table = self.make(self.url)

    def make(self, url: str) -> PopularityTable:
        return PopularityTable(self.clock, Agent(reactor), url, str(self.copy))

    def serve(self, document: object, status: str = "200 OK", **headers: str) -> None:
        self.server.answer = answer(document, status)

    def keep(self, document: object) -> None:
        self.copy.parent.mkdir(exist_ok=True)
        self.copy.write_text(json.dumps(document))


@pytest.fixture
def world(tmp_path: Path) -> Any:
    """A server, and a table that is loaded from it."""
    made = World(tmp_path)
    yield made
    pytest_twisted.blockon(made.port.stopListening())
    for connection in list(made.server.connected):
        connection.transport.loseConnection()  # type: ignore[union-attr]


@pytest_twisted.ensureDeferred
async def test_loaded_and_kept(world: World) -> None:
    """The table is the server's, and a copy is kept for later."""
    world.serve(TABLE)
    await world.table.load()
    assert world.table.counts == TABLE
    assert json.loads(world.copy.read_text()) == TABLE
    assert not world.clock.getDelayedCalls()


@pytest_twisted.ensureDeferred
async def test_credentials(world: World) -> None:
    """The user and the password of the URL are shown to the server."""
    world.serve(TABLE)
    table = world.make(world.url.replace("://", "://user:secret@"))
    await table.load()
    assert table.counts == TABLE
    assert b"\r\nAuthorization: Basic dXNlcjpzZWNyZXQ=\r\n" in world.server.asked[-1]


@pytest_twisted.ensureDeferred
async def test_replaced_as_a_whole(world: World) -> None:
    """Whoever has the table keeps the one that they have when another is loaded."""
    world.serve(TABLE)
    await world.table.load()
    before = world.table.counts
    world.serve(OTHER)
    await world.table.load()
    assert (before, world.table.counts) == (TABLE, OTHER)


@pytest_twisted.ensureDeferred
async def test_the_newest_serves(world: World) -> None:
    """Of two loads, the one that was begun last decides, however long the other takes."""
    world.server.ends = False
    loads = [Deferred.fromCoroutine(world.table.load()) for _ in range(2)]
    await until(lambda: world.server.answered == 1)
    world.serve(OTHER)
    (first,) = world.server.connected
    first.transport.write(answer(TABLE))  # type: ignore[union-attr]
    for load in loads:
        await load
    assert world.server.answered == 2
    assert world.table.counts == OTHER
    assert json.loads(world.copy.read_text()) == OTHER


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("cut", [0, 20, -5], ids=["nothing", "headers", "a part"])
@pytest.mark.parametrize("has_copy", [True, False])
async def test_a_server_that_stalls(world: World, cut: int, has_copy: bool) -> None:
    """A server that goes silent, wherever in its answer, is given up in time: soon where there is
    a copy, which serves then; and the connection to it is closed."""
    if has_copy:
        world.keep(OTHER)
    world.serve(TABLE)
    world.server.answer = world.server.answer[:cut] if cut else b""
    world.server.ends = False
    loading = Deferred.fromCoroutine(world.table.load())
    await until(lambda: world.server.answered == 1)
    limit = PATIENCE_WITH_COPY if has_copy else PATIENCE
    world.clock.advance(limit - 0.5)
    assert not loading.called
    with capturedLogs() as captured:
        world.clock.advance(0.5)
        if has_copy:
            await loading
            assert world.table.counts == OTHER
            said = [formatEvent(event) or "" for event in captured]
            assert any("its copy is used" in line for line in said)
        else:
            with pytest.raises(SourceUnavailable, match=f"not loaded within {PATIENCE:g} s"):
                await loading
    await until(lambda: not world.server.connected)


@pytest_twisted.ensureDeferred
async def test_a_server_that_sends_too_slowly(world: World) -> None:
    """A server that never goes silent, but is never done either, is given up as well."""
    world.keep(OTHER)
    world.server.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
    world.server.ends = False
    loading = Deferred.fromCoroutine(world.table.load())
    await until(lambda: world.server.answered == 1)
    for _ in range(int(PATIENCE_WITH_COPY)):
        assert not loading.called
        world.server.connected[0].transport.write(b" ")  # type: ignore[union-attr]
        world.clock.advance(1)
    await loading
    assert world.table.counts == OTHER
    await until(lambda: not world.server.connected)


@pytest_twisted.ensureDeferred
async def test_a_table_that_is_too_large(world: World) -> None:
    """No more is taken of an answer than a table can have."""
    world.keep(OTHER)
    world.serve(b"")
    size = LIMIT * 2
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n".encode()
    world.server.answer = head + b" " * (LIMIT + 100)
    world.server.ends = False
    await world.table.load()
    assert world.table.counts == OTHER
    await until(lambda: not world.server.connected)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("content", "status"),
    [(TABLE, "404 Not Found"), (b"<html>", "200 OK"), ([1], "200 OK"), ({"a": -1}, "200 OK")],
    ids=str,
)
async def test_an_answer_that_is_no_table(world: World, content: object, status: str) -> None:
    """Where there is no table, the copy serves and stays; without one, it is said what is wrong."""
    world.serve(content, status)
    with pytest.raises(SourceUnavailable, match="popularity table"):
        await world.table.load()
    assert world.table.counts == {}
    world.keep(OTHER)
    await world.table.load()
    assert world.table.counts == OTHER
    assert json.loads(world.copy.read_text()) == OTHER


@pytest_twisted.ensureDeferred
async def test_a_connection_that_is_lost(world: World) -> None:
    """Half a table is none."""
    world.keep(OTHER)
    world.serve(TABLE)
    world.server.answer = world.server.answer[:-5]
    await world.table.load()
    assert world.table.counts == OTHER


@pytest_twisted.ensureDeferred
async def test_a_file(world: World, tmp_path: Path) -> None:
    """A table may be in a file; one that is not there keeps the table that was loaded before."""
    file = tmp_path / "a table.json"
    file.write_text(json.dumps(TABLE))
    table = world.make(f"file://{str(file).replace(' ', '%20')}")
    await table.load()
    assert table.counts == TABLE
    file.unlink()
    await table.load()
    assert table.counts == TABLE
