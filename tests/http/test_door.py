"""Where connections come in, and those that there is no room for."""

import os
import resource
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, cast

import pytest
import pytest_twisted
from twisted.internet.defer import maybeDeferred
from twisted.internet.endpoints import AdoptedStreamServerEndpoint, serverFromString
from twisted.internet.interfaces import (
    IListeningPort,
    IReadDescriptor,
    IStreamServerEndpoint,
)
from twisted.internet.threads import deferToThread
from twisted.logger import capturedLogs, formatEvent
from twisted.web.resource import Resource
from zope.interface.verify import verifyObject

from nixery.http.bounded_site import BoundedSite
from nixery.http.bounds import Bounds
from nixery.http.channel import BoundedChannel
from nixery.http.door import Door, DoorEndpoint
from nixery.http.request import NOBODY, RegistryRequest
from nixery.http.tls import TLSEndpoint, watch_pair
from nixery.model.limits import HttpLimits
from tests.http.test_channel import read_all
from tests.http.test_connections import Fake
from tests.waiting import HUNG, until
from tests.web.certificates import make_pair
from tests.web.connected import VERSION
from tests.web.server import reactor

ROOM = 32
KINDS = ("tcp", "unix", "inherited", "tls")


class Whoami(Resource):
    """Says who asks.

    :ivar asked: who has.
    """

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def render(self, request: RegistryRequest) -> bytes:
        self.asked.append(request.sender)
        return request.sender.encode("ascii")


class Open:
    """A door that is open."""

    def __init__(self, door: Door, kind: str, path: str) -> None:
        self.door, self._kind, self._path = door, kind, path
        host: Any = door.getHost()
        self._port = None if kind == "unix" else host.port

    def connect(self) -> socket.socket:
        """Connect, without TLS."""
        if self._kind == "unix":
            made = socket.socket(socket.AF_UNIX)
            made.settimeout(HUNG)
            made.connect(self._path)
            return made
        return socket.create_connection(("127.0.0.1", self._port), HUNG)

    def ask(self) -> bytes:
        """Ask for something, and say what comes until the connection is closed."""
        with self.connect() as connection:
            if self._kind == "tls":
                context = ssl.create_default_context()
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
                connection = context.wrap_socket(connection)
            with connection:
                connection.sendall(VERSION.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
                return read_all(connection)


@asynccontextmanager
async def opened(
    kind: str, folder: Path, trusted: Any = NOBODY
) -> AsyncIterator[tuple[Open, Bounds]]:
    """A door of a kind, for the length of a block."""
    bounds = Bounds(HttpLimits(connections=ROOM))
    path = os.path.relpath(folder / "socket")  # such paths are short
    with socket.socket() as held:
        endpoint: Any = serverFromString(reactor, "tcp:0:interface=127.0.0.1")
        if kind == "unix":
            endpoint = serverFromString(reactor, f"unix:{path}")
        elif kind == "inherited":
            held.bind(("127.0.0.1", 0))
            held.listen()
            held.setblocking(False)
            # The endpoint closes what it adopts.
            endpoint = AdoptedStreamServerEndpoint(reactor, os.dup(held.fileno()), held.family)
        elif kind == "tls":
            endpoint = TLSEndpoint(endpoint, watch_pair(make_pair(folder)))
        site = BoundedSite(Whoami(), reactor, bounds)
        site.trusted = trusted
        outer = DoorEndpoint(reactor, endpoint, is_tls=kind == "tls")
        assert verifyObject(IStreamServerEndpoint, outer)
        door = await outer.listen(site)
        assert isinstance(door, Door)
        try:
            yield Open(door, kind, path), bounds
        finally:
            await maybeDeferred(door.stopListening)


def fill(bounds: Bounds, count: int) -> list[Fake]:
    """Have all connections taken by others, and so many by those who are here."""
    fakes = [Fake() for _ in range(ROOM - ROOM // 16)]
    for number, each in enumerate(fakes):
        owner = "127.0.0.1" if number < count else f"192.0.2.{number % 2}"
        assert bounds.connections.admit(each, owner) is None
        bounds.connections.works(each)
    return fakes


@pytest.mark.program
@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("kind", KINDS)
async def test_served(tmp_path: Path, kind: str) -> None:
    """At whatever port a client comes, it is served, and known by its address."""
    async with opened(kind, tmp_path) as (door, bounds):
        assert verifyObject(IListeningPort, door.door)
        assert verifyObject(IReadDescriptor, door.door)
        answer = await deferToThread(door.ask)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert answer.endswith(b"\r\n\r\n" + (b"unix" if kind == "unix" else b"127.0.0.1"))
        assert not bounds.refused


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("kind", ["tcp", "inherited"])
@pytest.mark.parametrize("data", [b"", VERSION, b"x" * 20_000])
async def test_turned_away(tmp_path: Path, kind: str, data: bytes) -> None:
    """A crowd that there is no room for is told so, whatever it has sent, before anything is made
    for it; whoever has few connections comes in all the same."""
    async with opened(kind, tmp_path) as (door, bounds):
        fakes = fill(bounds, 12)
        with door.connect() as connection:
            connection.sendall(data)
            answer = await deferToThread(read_all, connection)
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nRetry-After: " in answer
        assert b'"UNAVAILABLE"' in answer
        assert bounds.refused == {"connections": 1}
        assert not any(each.closed for each in fakes)
        for each in fakes[:11]:
            bounds.connections.gone(each)
        fill_again = [Fake() for _ in range(11)]
        for each in fill_again:
            assert bounds.connections.admit(each, "192.0.2.0") is None
            bounds.connections.works(each)
        assert (await deferToThread(door.ask)).startswith(b"HTTP/1.1 200 ")


@pytest.mark.program
@pytest_twisted.ensureDeferred
async def test_turned_away_over_tls(tmp_path: Path) -> None:
    """Where TLS is spoken, a crowd that there is no room for is told nothing in plain HTTP."""
    async with opened("tls", tmp_path) as (door, bounds):
        fill(bounds, 12)
        with door.connect() as connection:
            assert await deferToThread(read_all, connection) == b""
        assert bounds.refused == {"connections": 1}


@contextmanager
def few_more_files(number: int) -> Iterator[None]:
    """No more files than a number can be opened for the length of a block."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with ExitStack() as stack:
        least = max(int(name) for name in os.listdir("/proc/self/fd")) + 1
        resource.setrlimit(resource.RLIMIT_NOFILE, (least, limits[1]))
        try:
            files = []
            with suppress(OSError):
                while True:
                    files.append(stack.enter_context(open(os.devnull)))
            for file in files[:number]:
                file.close()
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("number", [0, 1])
async def test_no_more_files(tmp_path: Path, number: int) -> None:
    """Whoever comes when no more files can be opened waits, and is served when that is over; it is
    told to the log once for all who come meanwhile. One connection needs two of them for a
    moment."""
    async with opened("tcp", tmp_path) as (door, bounds):
        with ExitStack() as stack:
            connections = [stack.enter_context(door.connect()) for _ in range(3)]
            with capturedLogs() as captured, few_more_files(number):
                door.door.doRead()
            assert [formatEvent(each) for each in captured] == [
                "can't accept more connections for now (EMFILE)"
            ]
            assert bounds.connections.open == 0
            await until(lambda: bounds.connections.open == len(connections))


class Broken:
    """Can't say of the first address whether it is a proxy's."""

    def __init__(self) -> None:
        self.asked: list[object] = []

    def __contains__(self, address: object) -> bool:
        self.asked.append(address)
        if len(self.asked) == 1:
            raise RuntimeError("a mistake of ours")
        return False


@pytest_twisted.ensureDeferred
async def test_a_mistake_of_ours(tmp_path: Path) -> None:
    """Whatever goes wrong with one connection ends that one, is logged, and the next is served."""
    async with opened("tcp", tmp_path, Broken()) as (door, _):
        with capturedLogs() as captured:
            assert await deferToThread(door.ask) == b""
        assert "while taking a connection" in [formatEvent(each) for each in captured]
        assert (await deferToThread(door.ask)).startswith(b"HTTP/1.1 200 ")


class BrokenChannel(BoundedChannel):
    """Can't read what comes."""

    def dataReceived(self, data: bytes) -> None:
        raise RuntimeError("a mistake of ours")


@pytest_twisted.ensureDeferred
async def test_a_mistake_while_reading(tmp_path: Path) -> None:
    """What goes wrong with what came with a connection ends that one, and is logged."""
    async with opened("tcp", tmp_path) as (door, bounds):
        door.door._port.factory.protocol = BrokenChannel
        with door.connect() as client:
            client.sendall(VERSION)
            with capturedLogs() as captured:
                door.door.doRead()
            with pytest.raises(ConnectionResetError):
                await deferToThread(client.recv, 1)
        assert "while reading from a new connection" in map(formatEvent, captured)
        await until(lambda: bounds.connections.open == 0)


class Slow:
    """The reactor, for which each look at the clock takes a while."""

    def __init__(self) -> None:
        self._now = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(reactor, name)

    def seconds(self) -> float:
        self._now += 0.005
        return self._now

    def addReader(self, reader: object) -> None:
        """Watch nothing: the test does it."""

    removeReader = addReader


@pytest_twisted.ensureDeferred
async def test_others_have_their_turn(tmp_path: Path) -> None:
    """However many wait, no more are taken in a round of the reactor than in a slice of time; the
    others are in the next ones."""
    slow: Any = Slow()
    bounds = Bounds(HttpLimits(connections=ROOM))
    site = BoundedSite(Whoami(), reactor, bounds)
    endpoint = DoorEndpoint(slow, serverFromString(reactor, "tcp:0:interface=127.0.0.1"), False)
    door: Any = await endpoint.listen(site)
    with ExitStack() as stack:
        for _ in range(20):
            where = ("127.0.0.1", door.getHost().port)
            stack.enter_context(socket.create_connection(where, HUNG))
        taken = []
        while bounds.connections.open < 20:
            before = bounds.connections.open
            door.doRead()
            taken.append(bounds.connections.open - before)
        assert len(taken) > 2
        await maybeDeferred(door.stopListening)


@pytest.mark.program
@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("kind", ["tcp", "unix", "tls"])
async def test_closed(tmp_path: Path, kind: str) -> None:
    """Nobody comes in at a door that was closed."""
    async with opened(kind, tmp_path) as (door, _):
        await maybeDeferred(door.door.stopListening)
        with pytest.raises(OSError, match=r"refused|No such"):
            door.connect()


@pytest_twisted.ensureDeferred
async def test_what_came_with_a_connection(tmp_path: Path) -> None:
    """A request that is here when its connection is accepted is read then, not in a later round."""
    resource, slow = Whoami(), cast(Any, Slow())
    endpoint = DoorEndpoint(slow, serverFromString(reactor, "tcp:0:interface=127.0.0.1"), False)
    door: Any = await endpoint.listen(BoundedSite(resource, reactor, Bounds(HttpLimits())))
    with ExitStack() as stack:
        for data in (VERSION, VERSION[:10], b""):
            where = ("127.0.0.1", door.getHost().port)
            stack.enter_context(socket.create_connection(where, HUNG)).sendall(data)
        door.doRead()
        assert resource.asked == ["127.0.0.1"]
        await maybeDeferred(door.stopListening)


@pytest_twisted.ensureDeferred
async def test_nobody_waits_behind_a_crowd(tmp_path: Path) -> None:
    """Whoever comes behind a crowd that there is no room for is let in before those are told so,
    and all of them are told."""
    slow: Any = Slow()
    bounds = Bounds(HttpLimits(connections=ROOM))
    site = BoundedSite(Whoami(), reactor, bounds)
    endpoint = DoorEndpoint(slow, serverFromString(reactor, "tcp:0:interface=127.0.0.1"), False)
    door: Any = await endpoint.listen(site)
    fakes = fill(bounds, 12)
    with ExitStack() as stack:

        def come(address: str) -> socket.socket:
            where = ("127.0.0.1", door.getHost().port)
            made = stack.enter_context(socket.create_connection(where, HUNG, (address, 0)))
            made.setblocking(False)
            return made

        crowd = [come("127.0.0.1") for _ in range(ROOM)]
        come("127.0.0.2")
        told: list[int] = []
        while not told or told[-1] < len(crowd):
            door.doRead()
            told.append(sum(_is_told(each) for each in crowd))
            let_in = any(fake.closed for fake in fakes)  # one of them has made room
            assert let_in or not told[-1]
        assert 0 in told
        await maybeDeferred(door.stopListening)


def _is_told(connection: socket.socket) -> bool:
    with suppress(BlockingIOError):
        return connection.recv(1 << 16, socket.MSG_PEEK).startswith(b"HTTP")
    return False
