# mypy: disable-error-code="untyped-decorator"
"""Connections that are lent while they rest."""

import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from ipaddress import ip_address
from typing import Any

import attrs
import psutil
import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from nixery.http.asked_head import HeadReader
from nixery.http.lending import LendableChannel, lend
from nixery.http.request import NOBODY
from nixery.serving.responders import Known, Responders
from tests.waiting import lives, until
from tests.web.connected import HELD, LIMITS, VERSION
from tests.web.server import Collector, Server, reactor, serving
from tests.web.server import lending as lending_of

ONCE = VERSION.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
FOR_EVER = 1e6


@attrs.frozen
class Lending:
    """A server whose connections are lent to a responder, which knows the answers to two requests.

    :ivar noted: the IDs of the requests that it has answered.
    """

    server: Server
    responders: Responders
    noted: list[str]

    async def connect(self) -> "Client":
        return await self.server.connect(Client())

    def teach(self, body: bytes = b"{}", seconds: float = FOR_EVER) -> None:
        """Teach it answers to both requests; other than the server's, to tell them apart."""
        reader = HeadReader(ip_address("127.0.0.1"), False, NOBODY, 1000)
        for head in (VERSION, ONCE):
            asked = reader.read(head)
            assert asked is not None
            known = Known(
                asked.key,
                b"HTTP/1.1 299 Known\r\nDate: ",
                b"\r\nX-Request-ID: ",
                b"\r\nContent-Length: %d\r\n\r\n" % len(body) + body,
                head == ONCE,
                lambda id, _, __: self.noted.append(id),
            )
            self.responders.teach(known, seconds, self.responders.generation)

    def process(self) -> psutil.Process:
        (pid,) = self.responders.pids
        return psutil.Process(pid)

    @property
    def lent(self) -> int:
        """How many connections the responder has."""
        return sum(each.load for each in self.responders._links)


class Client(Collector):
    """A client that counts the answers it has."""

    transport: Any

    async def ask(self, data: bytes, answers: int = 1) -> list[int]:
        """Send something, and say the statuses of so many answers that come then."""
        before = len(self.statuses)
        self.transport.write(data)
        await until(lambda: len(self.statuses) >= before + answers or self.closed.called)
        return self.statuses[before:]

    def has(self, statuses: list[int]) -> bool:
        return self.statuses == statuses

    @property
    def statuses(self) -> list[int]:
        """Of all answers whose head has come."""
        lines = self.received.split(b"HTTP/1.1 ")[1:]
        return [int(each[:3]) for each in lines if b"\r\n\r\n" in each]


@asynccontextmanager
async def lending(**more: Any) -> AsyncIterator[Lending]:
    """Serve, and lend, for the length of a block."""
    async with serving(**more) as server, lending_of(server.site) as responders:
        made = Lending(server, responders, [])
        made.teach()
        yield made


OTHER = b"GET /v2/x/manifests/latest HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest_twisted.ensureDeferred
async def test_known_and_unknown_requests() -> None:
    """On one connection, the responder answers what it knows and the server all else, in order,
    whatever comes together."""
    async with lending() as made:
        client = await made.connect()
        assert await client.ask(VERSION) == [299]
        assert await client.ask(OTHER) == [200]
        assert await client.ask(VERSION) == [299]
        assert await client.ask(VERSION + OTHER, 2) == [200, 200]
        assert await client.ask(OTHER + VERSION, 2) == [200, 200]
        assert await client.ask(VERSION) == [299]
        assert await client.ask(b"nonsense\r\n\r\n") == [400]
        assert await client.closed
        await until(lambda: len(made.noted) == 3)
        assert made.server.bounds.connections.open == 0


@pytest_twisted.ensureDeferred
async def test_requests_in_parts() -> None:
    """A request that comes in parts is answered by the server, which times it."""
    async with lending() as made:
        client = await made.connect()
        client.transport.write(VERSION[:9])
        await until(lambda: made.lent == 0)
        assert await client.ask(VERSION[9:]) == [200]
        await until(lambda: made.lent == 1)
        assert await client.ask(VERSION) == [299]


@pytest_twisted.ensureDeferred
async def test_answers_that_end_the_connection() -> None:
    """A connection whose client asks for it is closed behind a known answer, which is whole."""
    async with lending() as made:
        client = await made.connect()
        assert await client.ask(ONCE) == [299]
        assert (await client.closed).endswith(b"\r\nContent-Length: 2\r\n\r\n{}")
        assert made.server.bounds.connections.open == 0
        assert len(made.noted) == 1


class FakeLender:
    """Takes every connection that it is offered, if any, and does nothing with it."""

    generation = 0

    def __init__(self) -> None:
        self.takes, self.forgotten = True, 0
        self.has: list[LendableChannel] = []
        self.taught: list[float] = []

    def lend(self, connection: LendableChannel) -> bool:
        self.has.append(connection)
        return self.takes

    def teach(self, known: Known, seconds: float, generation: int) -> None:
        self.taught.append(seconds)

    def forget(self) -> None:
        self.forgotten += 1


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("size", [1, 70_000, 250_000])
async def test_slow_clients(size: int) -> None:
    """A client that has taken a part of a known answer gets the rest from the server, and then the
    answers to what it has asked since; only then its connection is lent again."""
    unsent, lender = os.urandom(size), FakeLender()
    async with serving() as server:
        lend(server.site, lender)
        client = await server.connect(Client())
        await until(lambda: lender.has)
        (channel,) = lender.has
        client.transport.write(OTHER)
        channel.returned(unsent)
        await until(lambda: len(client.received) == size)
        assert client.received == unsent
        while not client.statuses:
            await until(lambda: channel._lent or client.statuses)
            channel.returned()
        assert client.statuses == [200]
        assert server.bounds.untaken.total == 0


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("closes", [False, True])
async def test_clients_that_take_the_rest_slowly(closes: bool) -> None:
    """A connection is not idle before its client has taken the rest of an answer; then it is, or
    ends."""
    lender, rest = FakeLender(), bytes(80_000)
    async with serving() as server:
        lend(server.site, lender)
        client = await server.connect(Client())
        await until(lambda: lender.has)
        (channel,) = lender.has
        client.transport.pauseProducing()
        for end in (channel.transport, client.transport):
            end.getHandle().setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
            end.getHandle().setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        channel.was_used(b"", closes)
        channel.returned(rest)
        connections, untaken = server.bounds.connections, server.bounds.untaken
        assert (channel.timeOut, connections.idle, untaken.total > 0) == (None, 0, True)
        client.transport.resumeProducing()
        await until(lambda: len(client.received) == len(rest))
        if closes:
            await client.closed
        else:
            await until(lambda: connections.idle == 1)
            assert channel.timeOut is not None
        await until(lambda: untaken.total == 0)


class LastPiece:
    """A producer whose request is answered as soon as it may go on.

    :ivar answered: fires then.
    """

    def __init__(self, channel: LendableChannel) -> None:
        self.answered: Deferred[None] = Deferred()
        self._request: Any = channel.requests[0]
        self._request.registerProducer(self, True)

    def resumeProducing(self) -> None:
        self._request.unregisterProducer()
        self.answered.callback(None)

    def pauseProducing(self) -> None:
        pass

    def stopProducing(self) -> None:
        pass


@pytest_twisted.ensureDeferred
async def test_large_answers() -> None:
    """A connection is not read while it is lent, also if it was lent as the last piece of an answer
    left."""
    lender = FakeLender()
    async with serving() as server:
        lend(server.site, lender)
        client = await server.connect(Client())
        await until(lambda: lender.has)
        (channel,) = lender.has
        channel.returned()
        server.builder.gate = Deferred()
        client.transport.write(HELD)
        await until(lambda: channel.requests)
        LastPiece(channel).answered.chainDeferred(server.builder.gate)
        channel.pauseProducing()
        channel.resumeProducing()
        assert lender.has == [channel] * 2
        assert channel._lent
        assert channel.transport not in reactor.getReaders()
        channel.returned()
        assert channel.transport in reactor.getReaders()


@pytest_twisted.ensureDeferred
async def test_answers_that_may_be_given_no_longer() -> None:
    """An answer is lent for no longer than its client may have it; one that is found to hold no
    longer is forgotten by all."""
    lender = FakeLender()
    lender.takes = False
    async with serving() as server:
        lend(server.site, lender)
        known, headers = server.site.known, {"A": "b"}
        await server.ask("/v2/", headers=headers)
        ((key, answer),) = known._kept.items()
        for left, outdated in ((0.5, False), (5, False), (5, True)):
            again = (lambda: False) if outdated else answer.again
            known._kept.put(key, attrs.evolve(answer, until=known.seconds() + left, again=again))
            await server.ask("/v2/", headers=headers)
        assert lender.taught[0] <= 0.5
        assert lender.taught[1:] == [1.0]
        assert lender.forgotten == 1


@pytest_twisted.ensureDeferred
async def test_no_room_for_the_rest_of_an_answer() -> None:
    """Where others leave no room in memory for the rest of an answer, it is cut."""
    lender = FakeLender()
    async with serving(limits=attrs.evolve(LIMITS, unread=10_000)) as server:
        lend(server.site, lender)
        client = await server.connect(Client())
        await until(lambda: lender.has)
        lender.has[0].returned(bytes(20_000))
        assert await client.closed == b""
        assert server.bounds.connections.open == 0


@pytest_twisted.ensureDeferred
async def test_clients_that_leave() -> None:
    """Of a client that leaves while its connection is lent, nothing is left."""
    async with lending() as made:
        client = await made.connect()
        await client.ask(VERSION)
        client.transport.abortConnection()
        await until(lambda: (made.server.bounds.connections.open, made.lent) == (0, 0))


@pytest_twisted.ensureDeferred
async def test_room_for_others() -> None:
    """Connections that are lent count for their client, and make room as others do: the one that
    was of use longest ago."""
    limits = attrs.evolve(LIMITS, client_connections=3)
    async with lending(limits=limits) as made:
        clients = [await made.connect() for _ in range(3)]
        for each in (clients[1], clients[0], clients[2], clients[0]):
            await each.ask(VERSION)
        await until(lambda: len(made.noted) == 4)
        fourth = await made.connect()
        assert await fourth.ask(VERSION) == [299]
        assert await clients[1].closed
        assert made.server.bounds.connections.open == 3
        assert not any(each.closed.called for each in (clients[0], clients[2]))


@pytest_twisted.ensureDeferred
async def test_a_responder_that_is_killed() -> None:
    """The clients of a responder that is killed are answered on the connections that they have."""
    async with lending() as made:
        clients = [await made.connect() for _ in range(50)]
        for each in clients:
            assert await each.ask(VERSION) == [299]
        process = made.process()
        process.suspend()
        for each in clients[:25]:
            each.transport.write(VERSION)
        process.kill()
        for each in clients[:25]:
            await until(partial(each.has, [299, 200]))
        for each in clients[25:]:
            assert await each.ask(VERSION) == [200]
        await until(lambda: made.responders.pids and not lives(process))


@pytest_twisted.ensureDeferred
async def test_stopping() -> None:
    """When the server stops, it has all its connections, and closes each behind its answer."""
    async with lending() as made:
        clients = [await made.connect() for _ in range(3)]
        for each in clients:
            assert await each.ask(VERSION) == [299]
        made.server.site.stopping = True
        await made.responders.stop()
        assert made.lent == 0
        assert await clients[0].ask(VERSION) == [200]
        assert b"Connection: close" in await clients[0].closed
        made.server.bounds.connections.retire()
        for each in clients:
            await each.closed


@pytest_twisted.ensureDeferred
async def test_expired_answers() -> None:
    """Once no answer holds, nothing is lent; what the server gives then is learnt anew."""
    async with lending() as made:
        client = await made.connect()
        assert await client.ask(VERSION) == [299]
        made.responders.forget()
        assert await client.ask(VERSION) == [200]
        assert made.lent == 0
        for _ in range(3):
            assert await client.ask(VERSION) == [200]
        assert made.lent == 1
        assert len(made.noted) == 1


@pytest_twisted.ensureDeferred
async def test_idle_connections() -> None:
    """A connection is closed when it has been idle for its time, which each request starts anew,
    whoever answers it."""
    async with lending() as made:
        client = await made.connect()
        assert await client.ask(VERSION) == [299]
        await until(lambda: made.noted)
        (channel,) = made.server.bounds.connections._open
        assert isinstance(channel, LendableChannel)
        channel.timeoutConnection()  # the time since it was made is over
        assert await client.ask(VERSION) == [299]
        await until(lambda: len(made.noted) == 2)
        channel._rested -= LIMITS.idle_seconds
        channel.timeoutConnection()
        await client.closed
