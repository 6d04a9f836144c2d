# mypy: disable-error-code="untyped-decorator"
"""Responders, as real processes."""

import os
import re
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import attrs
import psutil
import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.interfaces import IProcessTransport, IReactorProcess, IReadDescriptor
from twisted.internet.threads import deferToThread
from twisted.logger import capturedLogs, formatEvent
from zope.interface import implementer
from zope.interface.verify import verifyObject

from nixery.model.request_key import keyed_head
from nixery.serving.link import ResponderLink
from nixery.serving.packets import MOST_PARTS, Answer
from nixery.serving.responders import Known, Responders, pause_before
from tests.waiting import lives, until

reactor: Any = _reactor

HEAD = b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n"
OTHER = b"GET /v2/other HTTP/1.1\r\nHost: x\r\n\r\n"
ANSWER = re.compile(
    rb"HTTP/1.1 200 OK\r\nDate: [A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT\r\n"
    rb"X-Request-ID: ([0-9a-f]{16})\r\nContent-Length: 2\r\n\r\nOK"
)
FOR_EVER = 1e6
SECRET = bytes(32)


class Connection:
    """A connection of the daemon's, and its client's end."""

    def __init__(self) -> None:
        self.ours, self.client = socket.socketpair()
        self.ours.setblocking(False)
        self.client.setblocking(False)
        self.used: list[bool] = []
        self.back: list[bytes] = []
        self.was_cut = False
        self.is_of_proxy = False

    def fileno(self) -> int:
        return self.ours.fileno()

    def was_used(self, hops: bytes, closes: bool) -> str:
        self.used.append(closes)
        return hops.decode() or "direct"

    def returned(self, unsent: bytes = b"") -> None:
        self.back.append(unsent)

    def cut(self) -> None:
        self.was_cut = True

    def received(self) -> bytes:
        """What has come at the daemon's end."""
        with suppress(BlockingIOError):
            return self.ours.recv(100_000)
        return b""

    async def answer(self, size: int = 1) -> bytes:
        """What the client is sent, once it has so many bytes."""
        got = b""

        def enough() -> bool:
            nonlocal got
            with suppress(BlockingIOError):
                got += self.client.recv(100_000)
            return len(got) >= size

        await until(enough)
        return got


class Pool:
    """Responders, and what they were lent and taught."""

    def __init__(self, responders: Responders) -> None:
        self.responders = responders
        self.connections: list[Connection] = []
        self.noted: list[tuple[str, str, float]] = []

    def teach(
        self,
        head: bytes = HEAD,
        body: bytes = b"OK",
        closes: bool = False,
        seconds: float = FOR_EVER,
        of_proxy: bool = False,
        generation: int | None = None,
    ) -> None:
        keyed = keyed_head(head, SECRET, False, of_proxy, len(head))
        assert keyed is not None
        length = b"\r\nContent-Length: %d\r\n\r\n" % len(body)
        known = Known(
            keyed.key,
            b"HTTP/1.1 200 OK\r\nDate: ",
            b"\r\nX-Request-ID: ",
            length + body,
            closes,
            lambda *facts: self.noted.append(facts),
        )
        if generation is None:
            generation = self.responders.generation
        self.responders.teach(known, seconds, generation)

    def connect(self) -> Connection:
        made = Connection()
        self.connections.append(made)
        return made

    def lent(self) -> Connection:
        made = self.connect()
        assert self.responders.lend(made)
        return made

    def has_noted(self, count: int) -> bool:
        return len(self.noted) == count

    @property
    def links(self) -> list[ResponderLink]:
        return self.responders._links

    def is_ready(self) -> bool:
        return all(each.is_ready for each in self.links)

    def process(self) -> psutil.Process:
        (pid,) = self.responders.pids
        return psutil.Process(pid)


@implementer(IReactorProcess)
class Starting:
    """Starts processes, if there is room for them."""

    def __init__(self) -> None:
        self.room = True
        self.started = 0

    def spawnProcess(self, *args: Any, **kwargs: Any) -> IProcessTransport:
        if not self.room:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        self.started += 1
        made: IProcessTransport = reactor.spawnProcess(*args, **kwargs)
        return made


@asynccontextmanager
async def running(count: int = 1, processes: Any = reactor) -> AsyncIterator[Pool]:
    """Responders for the length of a block, behind which none is left."""
    responders = Responders(reactor, processes, count, SECRET)
    pool = Pool(responders)
    responders.start()
    family = [psutil.Process(pid) for pid in responders.pids]
    await until(pool.is_ready)
    try:
        yield pool
    finally:
        await responders.stop()
        assert not any(map(lives, family))
        for each in pool.connections:
            each.ours.close()
            each.client.close()


@pytest.fixture(autouse=True)
def _no_other_beats(monkeypatch: pytest.MonkeyPatch) -> None:
    """No beat but those of the tests: one amid them would find a responder silent."""
    monkeypatch.setattr("nixery.serving.responders.BEAT_SECONDS", FOR_EVER)


@pytest.fixture
def logged() -> Iterator[Callable[[], str]]:
    with capturedLogs() as events:
        yield lambda: "\n".join(map(str, map(formatEvent, events)))


@pytest_twisted.ensureDeferred
async def test_known_requests() -> None:
    """A known request is answered again and again, under an ID of its own, and noted each time."""
    async with running() as pool:
        pool.teach()
        connection = pool.lent()
        ids = []
        for count in range(1, 4):
            connection.client.send(HEAD)
            match = ANSWER.fullmatch(await connection.answer(100))
            assert match is not None
            ids.append(match[1].decode())
            await until(partial(pool.has_noted, count))
        assert [(id, who) for id, who, _ in pool.noted] == [(id, "direct") for id in ids]
        assert len(set(ids)) == 3
        assert connection.used == [False] * 3
        assert connection.back == []


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    "data",
    [OTHER, HEAD[:-1], HEAD + HEAD, HEAD + b"\r\n", b"\r\n" + HEAD, b"\x16\x03\x01", b"x" * 50_000],
    ids=["unknown", "half", "two", "more", "blank line", "TLS", "large"],
)
async def test_everything_else(data: bytes) -> None:
    """A connection on which anything else comes is given back with every byte of it."""
    async with running() as pool:
        pool.teach()
        connection = pool.lent()
        connection.client.send(data)
        await until(lambda: connection.back)
        assert connection.back == [b""]
        got = b""
        while more := connection.received():
            got += more
        assert got == data
        assert not pool.noted


@pytest_twisted.ensureDeferred
async def test_requests_of_proxies() -> None:
    """What a trusted proxy tells of a request decides about its ID and its sender alone."""
    async with running() as pool:
        pool.teach(of_proxy=True)
        connection = pool.connect()
        connection.is_of_proxy = True
        assert pool.responders.lend(connection)
        for number, id in enumerate((b"a-1", b"b-2", b"no ID")):
            told = b"X-Request-ID: %b\r\nX-Forwarded-For: 192.0.2.%d\r\n\r\n" % (id, number)
            connection.client.send(HEAD.replace(b"\r\n\r\n", b"\r\n" + told))
            answer = await connection.answer(80)
            assert (b"\r\nX-Request-ID: %b\r\n" % id in answer) == (b" " not in id)
            await until(partial(pool.has_noted, number + 1))
        assert [sender.strip() for _, sender, _ in pool.noted] == [
            *("192.0.2.0", "192.0.2.1", "192.0.2.2")
        ]
        other = pool.lent()
        other.client.send(HEAD)
        await until(lambda: other.back)


@pytest_twisted.ensureDeferred
async def test_clients_that_leave() -> None:
    """A connection that its client closes is given back, and so can be seen to be closed."""
    async with running() as pool:
        pool.teach()
        connection = pool.lent()
        connection.client.close()
        await until(lambda: connection.back)
        assert connection.ours.recv(1) == b""


@pytest_twisted.ensureDeferred
async def test_connections_that_the_daemon_closes() -> None:
    """A connection that is shut down while it is lent is given back, and kept open by nobody."""
    async with running() as pool:
        pool.teach()
        connection = pool.lent()
        connection.ours.shutdown(socket.SHUT_RDWR)
        connection.ours.close()
        await until(lambda: connection.back)
        await until(lambda: not pool.process().net_connections("unix")[1:])
        assert connection.client.recv(1) == b""


@pytest_twisted.ensureDeferred
async def test_slow_clients() -> None:
    """A client that takes a part of its answer gets the rest from the daemon, to the byte."""
    body = os.urandom(MOST_PARTS - 1000)
    async with running() as pool:
        pool.teach(body=body)
        connection = pool.connect()
        connection.ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        filled = connection.ours.send(b"-" * 1000)
        assert pool.responders.lend(connection)
        connection.client.send(HEAD)
        await until(lambda: connection.back)
        (unsent,) = connection.back
        whole = await connection.answer() + unsent
        assert unsent
        assert whole[filled:].endswith(b"\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        assert len(pool.noted) == 1


@pytest_twisted.ensureDeferred
async def test_answers_behind_which_the_connection_closes() -> None:
    """The daemon is told to close the connection, when it has it back."""
    async with running() as pool:
        pool.teach(closes=True)
        connection = pool.lent()
        connection.client.send(HEAD)
        assert ANSWER.fullmatch(await connection.answer(100))
        await until(lambda: connection.back)
        assert (connection.used, connection.back) == ([True], [b""])


@pytest_twisted.ensureDeferred
async def test_forgotten_answers() -> None:
    """An answer is given until it is forgotten, and not for a request that came later."""
    async with running() as pool:
        pool.teach()
        connection = pool.lent()
        pool.responders.forget()
        connection.client.send(HEAD)
        await until(lambda: connection.back)
        assert connection.received() == HEAD
        assert not pool.responders.lend(pool.connect()), "there is nothing to answer"
        pool.teach()
        assert pool.responders.lend(pool.connect())


@pytest_twisted.ensureDeferred
async def test_changes() -> None:
    """While something changes, no answer is given, and none learnt that may be from before it."""
    async with running() as pool:
        pool.teach()
        first, second = pool.lent(), pool.lent()
        before = pool.responders.generation
        with pool.responders.changing():
            first.client.send(HEAD)
            await until(lambda: first.back)
            pool.teach(generation=before)
            pool.teach()
            amid = pool.responders.generation
        for generation in (before, amid):
            pool.teach(generation=generation)
        second.client.send(HEAD)
        await until(lambda: second.back)
        assert not pool.noted


@pytest_twisted.ensureDeferred
async def test_many_answers() -> None:
    """Neither side keeps more than a few megabytes of answers, however many are taught at once."""
    async with running() as pool:
        process, body = pool.process(), bytes(60_000)
        before = process.memory_info().rss
        (link,) = pool.links
        for number in range(1000):
            link._silent = True
            assert link.send(b"B")
            await until(lambda: not link._silent)
            pool.teach(HEAD.replace(b"x", b"%d" % number), body)
        connection = pool.lent()
        connection.client.send(HEAD.replace(b"x", b"999"))
        await connection.answer(len(body))
        assert process.memory_info().rss < before + 40_000_000
        known = pool.responders._taught.values()
        assert not any(each for each in known if body in attrs.astuple(each))


@pytest_twisted.ensureDeferred
async def test_expired_answers() -> None:
    """An answer is given for no longer than it holds, and nothing is lent for it then."""
    async with running() as pool:
        pool.teach(OTHER)
        pool.teach(seconds=-1)
        connection = pool.lent()
        connection.client.send(HEAD)
        await until(lambda: connection.back)
        assert connection.received() == HEAD
    async with running() as pool:
        pool.teach(seconds=-1)
        assert not pool.responders.lend(pool.connect())


@pytest_twisted.ensureDeferred
async def test_answers_that_are_too_large() -> None:
    """An answer that has no room in a packet is not taught: the daemon gives it."""
    async with running() as pool:
        pool.teach(body=bytes(MOST_PARTS))
        assert not pool.responders.lend(pool.connect())


@pytest_twisted.ensureDeferred
async def test_the_one_with_the_fewest() -> None:
    """Connections go to the responder that has the fewest."""
    async with running(3) as pool:
        pool.teach()
        files = [psutil.Process(pid).num_fds for pid in pool.responders.pids]
        before = [each() for each in files]
        for _ in range(9):
            pool.lent()
        await until(lambda: [each() for each in files] == [count + 3 for count in before])


@pytest_twisted.ensureDeferred
async def test_killed(logged: Callable[[], str]) -> None:
    """The connections of a responder that is killed are the daemon's again, unharmed, with what
    has come on them; it is replaced, and the next one answers."""
    async with running() as pool:
        pool.teach()
        connections = [pool.lent() for _ in range(50)]
        (link,) = pool.links
        process = pool.process()
        process.suspend()
        for each in connections:
            each.client.send(HEAD)
        process.kill()
        await until(lambda: all(each.back for each in connections))
        assert [each.received() for each in connections] == [HEAD] * 50
        assert not any(each.was_cut for each in connections)
        await until(lambda: pool.responders.pids and pool.responders.pids != [process.pid])
        assert not pool.responders.lend(pool.connect()), "the new one has not begun to work"
        await until(pool.is_ready)
        assert link._shared.closed
        assert "a responder ended: " in logged()
        assert pool.responders.replaced == 1
        pool.teach()
        connection = pool.lent()
        connection.client.send(HEAD)
        assert ANSWER.fullmatch(await connection.answer(100))


@pytest_twisted.ensureDeferred
async def test_killed_with_a_request_in_hand() -> None:
    """A connection whose request a responder had taken is cut, since nobody knows how much of an
    answer was sent; the others are not."""
    async with running() as pool:
        pool.teach()
        first, second = pool.lent(), pool.lent()
        (link,) = pool.responders._links
        await deferToThread(pool.process().suspend)
        link._shared[:8] = (2 + 1).to_bytes(8, "little")  # numbers: the answer's, and theirs
        pool.process().kill()
        await until(lambda: second.back or second.was_cut)
        assert (first.back, first.was_cut) == ([b""], False)
        assert (second.back, second.was_cut) == ([], True)


@pytest_twisted.ensureDeferred
async def test_hanging(logged: Callable[[], str]) -> None:
    """A responder that says nothing from one beat to the next is replaced, and nothing it had is
    lost."""
    async with running() as pool:
        pool.teach()
        connection = pool.lent()
        process = pool.process()
        process.suspend()
        connection.client.send(HEAD)
        pool.responders._beat()
        pool.responders._beat()
        await until(lambda: connection.back)
        assert connection.received() == HEAD
        assert not lives(process)
        assert "a responder does not answer" in logged()


@pytest_twisted.ensureDeferred
async def test_living() -> None:
    """One that has nothing to do says so, and is left alone."""
    async with running() as pool:
        (link,) = pool.responders._links
        for _ in range(3):
            pool.responders._beat()
            assert link._silent
            await until(lambda: not link._silent)


@pytest_twisted.ensureDeferred
async def test_a_responder_that_takes_nothing() -> None:
    """What a responder has no room for stays with the daemon; it forgets all the same."""
    async with running() as pool:
        pool.teach()
        connection, process = pool.lent(), pool.process()
        process.suspend()
        body = bytes(MOST_PARTS - 1000)
        (link,) = pool.responders._links
        answer = Answer(0, 0, 0.0, False, bytes(32), b"", b"", body).to_bytes()
        while link.send(answer):
            pass
        while link.send(b"B"):
            pass
        assert not pool.responders.lend(pool.connect())
        pool.responders.forget()
        connection.client.send(HEAD)
        process.resume()
        await until(lambda: connection.back)
        assert connection.received() == HEAD


@pytest_twisted.ensureDeferred
async def test_no_room_for_a_process(logged: Callable[[], str]) -> None:
    """Where no process can be started, that is logged, and the daemon answers alone."""
    processes = Starting()
    processes.room = False
    async with running(processes=processes) as pool:
        assert "no responder can be started" in logged()
        pool.teach()
        assert not pool.responders.lend(pool.connect())


@pytest_twisted.ensureDeferred
async def test_stopping_returns_everything() -> None:
    """When the responders are stopped, all connections are the daemon's again, and none is lent."""
    async with running(2) as pool:
        pool.teach()
        connections = [pool.lent() for _ in range(10)]
        await pool.responders.stop()
        assert all(each.back == [b""] for each in connections)
        assert not pool.responders.lend(pool.connect())
        assert pool.responders.pids == []


@pytest_twisted.ensureDeferred
async def test_interrupted_at_a_terminal() -> None:
    """The keys that stop the daemon reach its responders too, as what has it reload may: they go on
    until it ends them."""
    async with running() as pool:
        pool.teach()
        connection = pool.lent()
        connection.client.send(HEAD)
        await connection.answer(100)  # it has begun to work
        for number in (signal.SIGINT, signal.SIGHUP):
            pool.process().send_signal(number)
            connection.client.send(HEAD)
            assert ANSWER.fullmatch(await connection.answer(100))
        assert pool.responders.replaced == 0


@pytest_twisted.ensureDeferred
async def test_small() -> None:
    """A responder stays in memory, so it loads neither Twisted, which would bring a library of
    zope.interface with it, nor our own big modules."""
    async with running() as pool:
        maps = {each.path for each in pool.process().memory_maps()}
        assert not [path for path in maps if "/zope/" in path or "cryptography" in path]


def test_pauses() -> None:
    """A responder is replaced at once; those that end soon after their start, after a pause that
    grows up to a minute."""
    pauses = [pause_before(count) for count in range(20)]
    assert pauses[:5] == [0, 0, 1, 2, 4]
    assert pauses[-1] == 60


def test_readings() -> None:
    """The processes are counted."""
    responders = Responders(reactor, reactor, 1, SECRET)
    assert [each.values() for each in responders.readings()] == [{"responder": 0}, {"": 0}]
    assert verifyObject(IReadDescriptor, ResponderLink(responders, reactor))
