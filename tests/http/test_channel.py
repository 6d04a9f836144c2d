"""What a connection may cost: time, memory, and how many there may be."""

import os
import socket
import ssl
import time
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import TCP4ServerEndpoint, UNIXServerEndpoint
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from nixery.http.bounds import MOST
from nixery.http.channel import LINGER
from nixery.http.request import Trusted
from nixery.http.tls import TLSEndpoint, watch_pair
from nixery.model.limits import HttpLimits
from nixery.storage.memory import MemoryStorage
from nixery.web.holding import HURRY
from nixery.web.pages.api import PagesApi
from nixery.web.site import QuietSite, make_site
from tests.history.histories import begin, open_history
from tests.waiting import HUNG, until
from tests.web.certificates import make_pair
from tests.web.connected import HELD, LIMITS, VERSION, Connected
from tests.web.server import MANIFEST, FakeBuilder, Locating, Server, as_it_is, reactor, serving
from tests.web.test_bad_input import statuses


def test_silent_connection() -> None:
    """A connection on which no request begins is closed after the time for headers."""
    connected = Connected()
    connected.clock.advance(19)
    assert connected.transport.connected
    connected.clock.advance(1)
    assert not connected.transport.connected
    assert connected.statuses == []
    assert connected.timers == 0


def test_slow_headers() -> None:
    """A byte a second does not prolong the time for headers, however long it goes on."""
    connected = Connected()
    connected.clock.advance(19)
    for number in range(19):
        connected.send(VERSION[number : number + 1])
        connected.clock.advance(1)
    assert connected.statuses == []
    connected.clock.advance(1)
    assert connected.statuses == [408]
    assert connected.transport.half_closed
    assert connected.site.bounds.refused == {"slow": 1}


def test_slow_body() -> None:
    """A body must be whole in the time for headers too."""
    connected = Connected()
    connected.send(VERSION[:-2] + b"Content-Length: 100\r\n\r\n")
    for _ in range(20):
        connected.send(b"x")
        connected.clock.advance(1)
    assert connected.statuses == [408]


def test_refused_clients_do_not_linger_on() -> None:
    """Who was refused may read why, and is then cut off, whatever he sends."""
    connected = Connected()
    connected.send(b"nonsense\r\n\r\n")
    assert connected.statuses == [400]
    connected.send(VERSION)
    connected.clock.advance(LINGER / 2)
    assert connected.transport.connected
    connected.send(VERSION)
    connected.clock.advance(LINGER / 2)
    assert not connected.transport.connected
    assert connected.statuses == [400]
    assert (connected.site.bounds.connections.open, connected.timers) == (0, 0)


def test_idle_between_requests() -> None:
    """A connection is kept between requests, for a time that each request starts anew."""
    connected = Connected()
    for number in range(1, 4):
        connected.send(VERSION)
        assert connected.statuses == [200] * number
        connected.clock.advance(119)
        assert connected.transport.connected
    connected.clock.advance(1)
    assert not connected.transport.connected


def test_headers_of_the_second_request() -> None:
    """The headers of each request have the same time, from their first byte."""
    connected = Connected()
    connected.send(VERSION)
    connected.clock.advance(100)
    connected.send(VERSION[:10])
    connected.clock.advance(19)
    assert connected.statuses == [200]
    connected.clock.advance(1)
    assert connected.statuses == [200, 408]


def test_waiting_is_not_idle() -> None:
    """A request that waits for its image is in no hurry, and its connection not idle."""
    connected = Connected()
    connected.builder.gate = Deferred()
    # As on the last hop of some clients, which is held for ever.
    connected.send(HELD.replace(b" HTTP", b"?nixery-hop=9 HTTP"))
    assert connected.site.bounds.connections.idle == 0
    connected.clock.advance(100_000)
    assert connected.transport.connected
    assert connected.site.bounds.requests.running == 1
    connected.builder.gate.callback(None)
    assert connected.statuses == [200]
    assert connected.site.bounds.connections.idle == 1
    assert connected.site.bounds.requests.running == 0


def test_a_client_that_leaves() -> None:
    """Of a client that leaves while he waits, nothing is left."""
    connected = Connected()
    connected.builder.gate = Deferred()
    connected.send(HELD + VERSION)
    connected.transport.abortConnection()
    bounds = connected.site.bounds
    assert (bounds.connections.open, bounds.connections.idle, bounds.requests.running) == (0, 0, 0)
    assert connected.timers == 0


def test_pipelined_requests_take_turns() -> None:
    """Of requests that come at once, one is answered in each of the reactor's turns."""
    connected = Connected()
    connected.send(VERSION * 5)
    assert connected.statuses == [200]
    connected.turns(2)
    assert connected.statuses == [200] * 3
    connected.turns(100)
    assert connected.statuses == [200] * 5
    assert connected.timers == 1  # it is idle


def test_pipelined_requests_wait_for_readers() -> None:
    """The next request is not answered before the last answer has left."""
    connected = Connected()
    connected.channel.pauseProducing()  # says the transport, being full
    connected.send(VERSION * 5)
    connected.turns(10)
    assert connected.statuses == [200]
    assert connected.transport.producerState == "paused"
    connected.clock.advance(1000)
    assert connected.transport.connected  # a slow reader is not idle
    connected.channel.resumeProducing()
    connected.turns(10)
    assert connected.statuses == [200] * 5
    assert connected.transport.producerState == "producing"
    connected.clock.advance(120)
    assert not connected.transport.connected


def test_slow_readers_are_not_idle() -> None:
    """While an answer is leaving, its connection is not idle, and no more requests are read."""
    connected = Connected()
    connected.channel.pauseProducing()
    connected.send(VERSION)
    assert connected.statuses == [200]
    assert connected.site.bounds.connections.idle == 0
    assert connected.transport.producerState == "paused"
    connected.clock.advance(1000)
    assert connected.transport.connected
    connected.channel.resumeProducing()
    assert connected.site.bounds.connections.idle == 1
    connected.send(VERSION)
    assert connected.statuses == [200, 200]


def test_crumbs_behind_a_request() -> None:
    """What comes behind a request, byte by byte, is kept in few pieces, and then understood."""
    connected = Connected()
    connected.builder.gate = Deferred()
    connected.send(HELD)
    for byte in VERSION * 20:
        connected.send(bytes([byte]))
        assert len(connected.channel._dataBuffer) <= 17
    connected.builder.gate.callback(None)
    connected.turns(30)
    assert connected.statuses == [200] * 21


HELLO = bytes.fromhex("1603010200010001fc0303") + bytes(range(256))
SSL2_HELLO = bytes.fromhex("802e0100020015000000100100800200800300800400800500800600")
OPENINGS = {
    "TLS": (HELLO, "tls"),
    "the first byte of TLS": (HELLO[:1], "tls"),
    "TLS with a line end": (HELLO + b"\r\n\r\n", "tls"),
    "SSL 2": (SSL2_HELLO, "tls"),
    "the first byte of SSL 2": (SSL2_HELLO[:1], "tls"),
    "NUL": (b"\x00", "malformed"),
    "space": (b" GET", "malformed"),
    "escape": (b"\x1b", "malformed"),
}


@pytest.mark.parametrize(("data", "reason"), OPENINGS.values(), ids=OPENINGS)
def test_what_is_no_http_is_refused_at_once(data: bytes, reason: str) -> None:
    """What can't become a request is refused with its first byte, in plain HTTP: clients that
    try TLS first fall back to plain HTTP by that."""
    connected = Connected()
    connected.send(data)
    received = connected.transport.value()
    assert received.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"\r\nConnection: close\r\n" in received
    assert (b"use http://" in received) == (reason == "tls")
    assert connected.transport.half_closed
    assert connected.site.bounds.refused == {reason: 1}
    connected.send(HELLO)
    connected.clock.advance(LINGER)
    assert not connected.transport.connected
    assert connected.transport.value() == received
    assert connected.timers == 0


@pytest.mark.parametrize("begin", [b"\r\n", b"G", b"g", b"!", b"~"])
def test_what_may_become_a_request_is_waited_for(begin: bytes) -> None:
    """A byte that a request may begin with, or an empty line before it, is no fault yet."""
    connected = Connected()
    connected.send(begin)
    assert connected.transport.value() == b""
    assert not connected.transport.half_closed


def test_tls_after_a_request() -> None:
    """A handshake that comes behind a request is refused like one at the beginning."""
    connected = Connected()
    connected.send(VERSION)
    connected.send(HELLO)
    assert connected.statuses == [200, 400]


def test_bodies_are_not_kept() -> None:
    """Of a body, nothing stays in memory or goes to disk."""
    connected = Connected()
    connected.builder.gate = Deferred()
    connected.send(HELD[:-2] + b"Content-Length: 60000\r\n\r\n" + b"x" * 60_000)
    (request,) = connected.channel.requests
    assert request.content.getvalue() == b""


class Crowd:
    """Connections of a test, as plain sockets."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._stack = ExitStack()

    def join(self, data: bytes = b"GET / HTTP/1.1\r\n") -> socket.socket:
        """Connect and send something; nobody reads."""
        made = socket.create_connection(("127.0.0.1", self._port), timeout=HUNG)
        self._stack.callback(made.close)
        made.sendall(data)
        return made

    def close(self) -> None:
        self._stack.close()


@contextmanager
def crowd(server: Server) -> Iterator[Crowd]:
    """Connections that are closed at the end of a block."""
    made = Crowd(server.port)
    try:
        yield made
    finally:
        made.close()


def read_all(connection: socket.socket) -> bytes:
    """What comes until the connection is closed, in whatever way."""
    received = bytearray()
    try:
        while data := connection.recv(1 << 16):
            received += data
    except ConnectionError:
        pass
    return bytes(received)


@pytest_twisted.ensureDeferred
async def test_half_open_connections_make_room() -> None:
    """One client's half-open connections never keep him out: the oldest makes room."""
    async with serving(limits=HttpLimits(client_connections=3)) as server:
        with crowd(server) as others:
            (first, *_) = [others.join() for _ in range(20)]
            assert await deferToThread(read_all, first) == b""
            assert (await server.ask("/v2/")).status == 200
            await until(lambda: server.bounds.connections.open <= 3)
            assert server.bounds.refused["idle_for_others"] >= 17
        await until(lambda: server.bounds.connections.open == 0)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("limits", "status", "code"),
    [
        (HttpLimits(client_connections=2), 429, "TOOMANYREQUESTS"),
        (HttpLimits(connections=2), 503, "UNAVAILABLE"),
    ],
    ids=["of one client", "of all"],
)
async def test_no_room(limits: HttpLimits, status: int, code: str) -> None:
    """When all connections are being answered, a newcomer hears when to come again."""
    async with serving(limits=limits) as server:
        server.builder.gate = Deferred()
        with crowd(server) as others:
            held = [others.join(HELD) for _ in range(2)]
            await until(lambda: server.bounds.requests.running == 2)
            answer = await server.ask("/v2/")
            assert (answer.status, answer.error()["code"]) == (status, code)
            assert int(answer.headers["retry-after"]) > 0
            assert answer.headers["x-request-id"]
            held[0].close()
            await until(lambda: server.bounds.connections.open == 1)
            assert (await server.ask("/v2/")).status == 200
        server.builder.gate.callback(None)


@pytest_twisted.ensureDeferred
async def test_the_reserve_is_not_held(tmp_path: Path) -> None:
    """On a connection that there was no room for, one answer is given, to what needs no waiting:
    neither a build nor an endless answer is."""
    history = await open_history(tmp_path)
    record = begin(history, "git/jq")
    async with serving(history=history, limits=HttpLimits(connections=16)) as server:
        gate = server.builder.gate = Deferred[None]()
        server.builder.build = record.id
        with crowd(server) as others:
            for _ in range(15):
                others.join(HELD)
            await until(lambda: server.bounds.requests.running == 15)
            for path in ("/v2/b/manifests/latest", f"/builds/{record.id}/events"):
                answer = await server.ask(path)
                assert (answer.status, answer.error()["code"]) == (503, "UNAVAILABLE")
                assert int(answer.headers["retry-after"]) > 0
            server.builder.gate = None
            for path in ("/v2/b/manifests/latest", f"/builds/{record.id}", "/v2/"):
                answer = await server.ask(path)
                assert (answer.status, answer.headers["connection"]) == (200, "close")
        gate.callback(None)
    record.done("sha256:x")
    await history.stop()


@pytest_twisted.ensureDeferred
async def test_a_slow_look_up_on_the_reserve() -> None:
    """On a connection that there was no room for, a known image is answered however long it takes
    to find it."""
    async with serving(hold=3600, limits=HttpLimits(connections=16)) as server:
        gate = server.builder.gate = Deferred[None]()
        with crowd(server) as others:
            for _ in range(15):
                others.join(HELD)
            await until(lambda: server.bounds.requests.running == 15)
            asked = Deferred.fromCoroutine(server.ask("/v2/b/manifests/latest"))
            await deferLater(reactor, 1.5 * HURRY, gate.callback, None)
            answer = await asked
            assert (answer.status, answer.headers["connection"]) == (200, "close")


def is_closed(connection: socket.socket) -> bool:
    """Whether a connection on which nothing has come was closed."""
    connection.setblocking(False)
    try:
        return not connection.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


@pytest_twisted.ensureDeferred
async def test_an_answer_to_a_crowd_is_cut() -> None:
    """When a crowd is being answered on all connections, another client is served, and what the
    crowd had open for the connection that it lost is gone at once."""
    async with serving(limits=HttpLimits(connections=32)) as server:
        gate = server.builder.gate = Deferred[None]()
        with ExitStack() as stack:
            where, source = ("127.0.0.1", server.port), ("127.0.0.2", 0)
            members = [
                stack.enter_context(socket.create_connection(where, 30, source)) for _ in range(30)
            ]
            for each in members:
                each.sendall(HELD)
            await until(lambda: server.bounds.requests.running == 30)
            assert (await server.ask("/v2/")).status == 200
            await until(lambda: server.bounds.requests.running == 29)
            assert server.bounds.refused == {"answer_for_others": 1}
            await until(lambda: sum(map(is_closed, members)) == 1)
        gate.callback(None)


@pytest_twisted.ensureDeferred
async def test_proxies_have_many_connections() -> None:
    """A proxy that is trusted has as many connections as there are at all."""
    limits, proxy = HttpLimits(client_connections=1), Trusted.parse("127.0.0.1")
    async with serving(limits=limits, trusted=proxy) as server:
        with crowd(server) as others:
            for _ in range(5):
                others.join()
            await until(lambda: server.bounds.connections.open == 5)
            assert (await server.ask("/v2/")).status == 200


@pytest_twisted.ensureDeferred
async def test_too_many_requests() -> None:
    """Of each client behind a proxy, so many requests are answered at once; others hear 429."""
    limits, proxy = HttpLimits(client_requests=2), Trusted.parse("127.0.0.1")
    async with serving(limits=limits, trusted=proxy) as server:
        server.builder.gate = Deferred()
        mine, his = ({"X-Forwarded-For": a} for a in ("2001:db8::1", "2001:db8:0:1::1"))
        with crowd(server) as others:
            for _ in range(2):  # another address of the same network
                others.join(HELD[:-2] + b"X-Forwarded-For: 2001:db8::9\r\n\r\n")
            await until(lambda: server.bounds.requests.running == 2)
            blob = f"/v2/a/blobs/{MANIFEST.digest}"
            answer = await server.ask(blob, headers=mine)
            assert (answer.status, answer.error()["code"]) == (429, "TOOMANYREQUESTS")
            assert int(answer.headers["retry-after"]) > 0
            assert (await server.ask(blob, headers=his)).status == 404
            assert (await server.ask("/v2/", headers=mine)).status == 200
            assert server.bounds.refused == {"client_requests": 1}
            server.builder.gate.callback(None)
            await until(lambda: server.bounds.requests.running == 0)
            assert (await server.ask(blob, headers=mine)).status == 404


SIZE = 24 * 1024 * 1024
BLOB = (
    f"GET /v2/a/blobs/{MANIFEST.digest} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
)


@pytest.fixture
def blob(tmp_path: Path) -> Locating:
    """A storage with one blob, of more than what the kernel's buffers take."""
    path = tmp_path / "blob"
    with path.open("wb") as file:
        file.truncate(SIZE)
    return Locating(as_it_is(path))


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("wrapped", [False, True], ids=["by the kernel", "in pieces"])
async def test_a_client_that_takes_nothing(blob: Locating, wrapped: bool) -> None:
    """A client that takes nothing of what it is sent is cut off, others are served meanwhile."""
    limits = HttpLimits(write_seconds=1)
    async with serving(storage=blob, limits=limits, wrapped=wrapped) as server:
        with crowd(server) as others:
            deaf = others.join(BLOB)
            await until(lambda: server.bounds.requests.running == 1)
            assert (await server.ask("/v2/")).status == 200
            await until(lambda: server.bounds.connections.open == 0)
            assert server.bounds.requests.running == 0
            assert len(await deferToThread(read_all, deaf)) < SIZE


@pytest_twisted.ensureDeferred
async def test_slow_readers_take_little_memory(blob: Locating) -> None:
    """Of a blob that nobody reads on, one piece for each reader is in memory, wherever it is."""
    readers = 10

    def held() -> int:
        traces = tracemalloc.take_snapshot().traces
        return sum(trace.size for trace in traces if trace.size >= MOST // 4)

    async with serving(storage=blob, wrapped=True) as server:
        with crowd(server) as others:
            tracemalloc.start()
            try:
                for _ in range(readers):
                    others.join(BLOB)
                await until(lambda: server.bounds.requests.running == readers)
                await deferLater(reactor, 0.5, lambda: None)  # until all are stuck
                await until(lambda: held() <= readers * MOST * 1.25)
            finally:
                tracemalloc.stop()


@pytest_twisted.ensureDeferred
async def test_a_client_that_takes_only_the_beginning(blob: Locating) -> None:
    """The end of an answer must be taken as well, when nobody here works at it any more."""
    path = Path(blob.location.path)  # type: ignore[union-attr]
    os.truncate(path, 5_500_000)
    blob.location = as_it_is(path)
    async with serving(storage=blob, limits=HttpLimits(write_seconds=1)) as server:
        with crowd(server) as others:
            others.join(BLOB)
            await until(lambda: server.bounds.connections.open == 1)
            await until(lambda: server.bounds.connections.open == 0)


@pytest_twisted.ensureDeferred
async def test_a_slow_client(blob: Locating) -> None:
    """A client that takes little at a time gets all of it, however long it takes."""
    limit = 5

    def read_slowly(connection: socket.socket) -> tuple[int, float]:
        total, longest, before = 0, 0.0, time.monotonic()
        while data := connection.recv(1 << 16):
            total += len(data)
            time.sleep(0.015)
            longest, before = max(longest, time.monotonic() - before), time.monotonic()
        return total, longest

    async with serving(storage=blob, limits=HttpLimits(write_seconds=limit)) as server:
        with crowd(server) as others:
            while True:
                total, longest = await deferToThread(read_slowly, others.join(BLOB))
                if longest < limit / 2:
                    break  # otherwise it was this machine that had no time to read
            assert total > SIZE


@asynccontextmanager
async def secure(folder: Path, limits: HttpLimits) -> AsyncIterator[tuple[QuietSite, int]]:
    """A site that speaks TLS, and its port, for the length of a block."""
    pages = PagesApi()
    site = make_site(reactor, FakeBuilder(), MemoryStorage(), 25, pages, limits=limits)
    watched = watch_pair(make_pair(folder, "here"))
    below = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
    port: Any = await TLSEndpoint(below, watched).listen(site)
    try:
        yield site, port.getHost().port
    finally:
        await maybeDeferred(port.stopListening)


@pytest.mark.program
@pytest_twisted.ensureDeferred
async def test_handshakes_end(tmp_path: Path) -> None:
    """The time for headers holds for a TLS handshake that does not come, or comes in part."""
    async with secure(tmp_path, HttpLimits(header_seconds=0.2)) as (site, port):
        for data in (b"", b"\x16\x03\x01\x02\x00\x01"):
            with socket.create_connection(("127.0.0.1", port), timeout=HUNG) as connection:
                connection.sendall(data)
                assert await deferToThread(read_all, connection) == b""
        await until(lambda: site.bounds.connections.open == 0)


@pytest.mark.program
@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("header", "status"), [(b"Connection: close", 200), (b"X: " + b"y" * 40_000, 431)]
)
async def test_tls_clients_that_stay(tmp_path: Path, header: bytes, status: int) -> None:
    """A TLS client that does not close when it is told to is not waited for."""

    def ask() -> tuple[ssl.SSLSocket, bytes]:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        plain = socket.create_connection(("127.0.0.1", port), timeout=HUNG)
        connection = context.wrap_socket(plain)
        connection.sendall(VERSION[:-2] + header + b"\r\n\r\n")
        return connection, connection.recv(12)

    async with secure(tmp_path, LIMITS) as (site, port):
        connection, answer = await deferToThread(ask)
        assert answer == b"HTTP/1.1 %d" % status
        await until(lambda: site.bounds.connections.open == 0)
        connection.close()


@pytest_twisted.ensureDeferred
async def test_unix_sockets(tmp_path: Path) -> None:
    """Over a UNIX socket, nobody's connections and requests are counted as one client's; a TLS
    handshake is answered."""
    limits = HttpLimits(client_connections=1, client_requests=1)
    builder = FakeBuilder(gate=Deferred())
    pages = PagesApi()
    site = make_site(reactor, builder, MemoryStorage(), 25, pages, limits=limits)
    path = str(tmp_path / "s")
    port = await UNIXServerEndpoint(reactor, path).listen(site)
    try:
        with ExitStack() as stack:
            for _ in range(3):
                made = stack.enter_context(socket.socket(socket.AF_UNIX))
                made.connect(path)
                made.sendall(HELD)
            await until(lambda: site.bounds.requests.running == 3)
            greeting = stack.enter_context(socket.socket(socket.AF_UNIX))
            greeting.connect(path)
            greeting.sendall(HELLO)
            assert statuses(await deferToThread(read_all, greeting)) == [400]
        await until(lambda: site.bounds.connections.open == 0)
    finally:
        await maybeDeferred(port.stopListening)
