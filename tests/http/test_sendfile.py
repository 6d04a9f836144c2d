# mypy: disable-error-code="import-untyped,untyped-decorator"
"""Files that the kernel sends, on real connections and on made-up ones."""

import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from threading import Event
from typing import Any

import attrs
import psutil
import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, ensureDeferred, maybeDeferred
from twisted.internet.endpoints import UNIXServerEndpoint
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.internet.tcp import Connection
from twisted.internet.threads import deferToThread

from nixery.http.bounds import Bounds
from nixery.http.sendfile import PageCache, send_file
from nixery.model.limits import HttpLimits
from nixery.web.pages.api import PagesApi
from nixery.web.site import make_site
from tests.http.test_channel import BLOB, crowd, read_all
from tests.http.test_twisted_private import SetReactor
from tests.waiting import HUNG, until
from tests.web.server import FakeBuilder, Locating, Server, as_it_is, reactor, serving

SIZE = 24 * 1024 * 1024
ONE = 1024 * 1024


@pytest.fixture
def blob(tmp_path: Path) -> Locating:
    """A storage with one blob, of more than what the kernel's buffers take."""
    path = tmp_path / "blob"
    path.write_bytes(b"".join(number.to_bytes(4, "big") for number in range(SIZE // 4)))
    return Locating(as_it_is(path))


def path_of(blob: Locating) -> Path:
    return Path(blob.location.path)  # type: ignore[union-attr]


def body_of(answer: bytes) -> bytes:
    return answer.partition(b"\r\n\r\n")[2]


# --- on real connections ----------------------------------------------------------------------


@attrs.define
class Meter:
    """Notes the bytes of answers."""

    sent: list[int] = attrs.Factory(list)

    def pulled(self, by: str, outcome: str) -> None: ...

    def answered(self, kind: str, status: int, sent: int, seconds: float) -> None:
        self.sent.append(sent)


@pytest_twisted.ensureDeferred
async def test_what_is_sent_is_counted(blob: Locating) -> None:
    """Metrics have the bytes that the kernel sends, those of clients that leave too."""
    meter = Meter()
    async with serving(storage=blob, meter=meter) as server:
        with crowd(server) as others:
            answer = await deferToThread(read_all, others.join(BLOB))
            assert body_of(answer) == path_of(blob).read_bytes()
            assert meter.sent == [SIZE]
            leaving = others.join(BLOB)
            await deferToThread(leaving.recv, 1000)
            leaving.close()
            await until(lambda: len(meter.sent) == 2)
            assert 0 < meter.sent[1] < SIZE


@pytest_twisted.ensureDeferred
async def test_clients_that_do_not_read(blob: Locating) -> None:
    """Of a blob that many do not read, nothing is in this process's memory; others get theirs, and
    when all have left, no file is open, and no connection counts as one that is sent to."""
    before = psutil.Process().num_fds()
    async with serving(storage=blob) as server:
        with crowd(server) as others:
            for _ in range(40):
                await deferToThread(others.join, BLOB)
            await until(lambda: server.bounds.sending == 40)
            assert (await server.ask(BLOB.split()[1].decode())).body == path_of(blob).read_bytes()
            assert server.bounds.untaken.total == 0
        await until(lambda: server.bounds.requests.running == 0)
        assert server.bounds.sending == 0
    await until(lambda: psutil.Process().num_fds() <= before)


@pytest_twisted.ensureDeferred
async def test_requests_behind_one(blob: Locating) -> None:
    """Requests that a client sends before it has read the blob are answered behind it, however
    many they are."""
    known = b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n"
    request = BLOB.replace(b"Connection: close\r\n", b"")
    async with serving(storage=blob) as server:
        with crowd(server) as others:
            asking = others.join(request + known * 2000 + BLOB)
            answer = await deferToThread(read_all, asking)
    first = body_of(answer)
    content = path_of(blob).read_bytes()
    assert first.startswith(content + b"HTTP/1.1 200 OK\r\n")
    assert first.endswith(b"\r\n\r\n" + content)
    assert first[SIZE:-SIZE].count(b"HTTP/1.1 200 OK\r\n") == 2001


@pytest_twisted.ensureDeferred
async def test_connections_that_make_room(blob: Locating) -> None:
    """A connection on which a file is sent can be closed at once in favour of another."""
    limits = HttpLimits(connections=16)
    async with serving(storage=blob, limits=limits) as server:
        with crowd(server) as others:
            reading = others.join(BLOB)
            await until(lambda: server.bounds.sending == 1)
            (connection,) = server.bounds.connections._open
            connection.make_room()
            await until(lambda: server.bounds.sending == 0)
            assert len(await deferToThread(read_all, reading)) < SIZE


@contextmanager
def narrow(server: Server) -> Iterator[socket.socket]:
    """A client for which the kernel takes a few kilobytes."""
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(HUNG)
        connection.connect(("127.0.0.1", server.port))
        yield connection


@pytest_twisted.ensureDeferred
async def test_changes_of_what_has_not_left(tmp_path: Path) -> None:
    """A file that is altered when the kernel has all of it, and most has not left, is not sent to
    its end: the kernel has no copy."""
    path = tmp_path / "blob"
    path.write_bytes(bytes(100_000))
    async with serving(storage=Locating(as_it_is(path))) as server:
        with narrow(server) as client:
            client.sendall(BLOB)
            # It would be none already if the end had not to wait for the rest.
            await until(lambda: server.bounds.sending == 1)
            for _ in range(3):
                assert (await server.ask("/v2/")).status == 200
            assert server.bounds.sending == 1
            with path.open("r+b") as file:
                file.seek(80_000)
                file.write(b"x")
            received = body_of(await deferToThread(read_all, client))
            assert len(received) < 100_000


@pytest_twisted.ensureDeferred
async def test_unix_sockets(blob: Locating) -> None:
    """Files are sent on UNIX sockets as well."""
    pages = PagesApi()
    site = make_site(reactor, FakeBuilder(), blob, 25, pages)
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/s"
        port = await UNIXServerEndpoint(reactor, path).listen(site)
        try:
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(HUNG)
                client.connect(path)
                client.sendall(BLOB)
                await until(lambda: site.bounds.sending == 1)
                answer = await deferToThread(read_all, client)
        finally:
            await maybeDeferred(port.stopListening)
    assert body_of(answer) == path_of(blob).read_bytes()


# --- on made-up ones --------------------------------------------------------------------------


class Watching(SetReactor):
    """Its threads are real."""

    def __init__(self) -> None:
        super().__init__()
        self.getThreadPool = reactor.getThreadPool
        self.callFromThread = reactor.callFromThread
        self.clock = Clock()
        self.seconds = self.clock.seconds


class Warm(PageCache):
    """All files are in memory, whatever else is, and whether or not the file system tells."""

    def has(self, file: FileIO, start: int, end: int) -> bool:
        return True


class Asked:
    """A request on one end of a pair of sockets, at whose other end the test reads."""

    def __init__(self, others: int = 0) -> None:
        """
        :param others: connections on which files are sent as well.
        """
        here, self.client = socket.socketpair()
        self.client.setblocking(False)
        made_up: Any = Watching()
        self.reactor = made_up
        self.transport = Connection(here, Protocol(), made_up)
        self.transport.connected = 1
        self.channel = self.site = self
        self.bounds = Bounds(HttpLimits())
        self.bounds.sending = others
        self.sentLength = 0

    def begin(self, file: Any, start: int, end: int, **others: Any) -> "Deferred[int]":
        request: Any = self
        usual: dict[str, Any] = {"check": lambda: None, "cache": Warm()}
        sending = send_file(self.reactor, request, file, start, end, **(usual | others))
        return ensureDeferred(sending)

    def turn(self) -> int:
        """Let the connection take more, once, and say how many bytes have come of it."""
        assert self.transport in self.reactor.writers
        assert self.transport.doWrite() is None
        return len(self.taken())

    def taken(self) -> bytes:
        received = b""
        try:
            while piece := self.client.recv(ONE):
                received += piece
        except BlockingIOError:
            pass
        return received


@pytest.fixture
def file(tmp_path: Path) -> Iterator[FileIO]:
    """An open file of some megabytes."""
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)) * (4 * ONE // 256))
    with FileIO(path) as opened:
        yield opened


@pytest.mark.parametrize(("others", "most"), [(0, 4 * ONE), (127, ONE // 16), (4000, ONE // 32)])
def test_turns_are_short(file: FileIO, others: int, most: int) -> None:
    """The more connections are sent files, the less each of them is sent at once; all together
    never more than takes some milliseconds, unless there are hundreds."""
    asked = Asked(others)
    sending = asked.begin(file, 0, 2 * ONE)
    pieces: list[int] = []
    while not sending.called:
        pieces.append(asked.turn())
    assert sum(pieces) == asked.sentLength == 2 * ONE
    assert ONE // 32 <= max(pieces) <= most
    assert asked.bounds.sending == others


def test_what_was_written_before_comes_first(file: FileIO) -> None:
    """Nothing of the file overtakes what was written to the connection."""
    asked = Asked()
    asked.transport.write(b"head" * 10)
    sending = asked.begin(file, 1, ONE)
    received = b""
    while not sending.called:
        asked.transport.doWrite()
        received += asked.taken()
    assert received == b"head" * 10 + (bytes(range(256)) * 4096)[1:ONE]


def test_full_connections_wait(file: FileIO) -> None:
    """A connection that takes nothing is sent nothing, and goes on where it was."""
    asked = Asked()
    sending = asked.begin(file, 0, 4 * ONE)
    asked.transport.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    for _ in range(100):
        assert asked.transport.doWrite() is None
    assert asked.sentLength < ONE
    received = asked.taken()
    while not sending.called:
        asked.transport.doWrite()
        received += asked.taken()
    assert received == bytes(range(256)) * (4 * ONE // 256)


class Cold(PageCache):
    """Nothing is in memory until a thread has read it, and the disk takes its time.

    :ivar arrived: the disk has answered.
    """

    def __init__(self) -> None:
        self.arrived = Event()
        self.loads = 0

    def has(self, file: FileIO, start: int, end: int) -> bool:
        return False

    def load(self, file: FileIO, start: int, end: int) -> None:
        self.loads += 1
        assert self.arrived.wait(HUNG)
        super().load(file, start, end)


@pytest_twisted.ensureDeferred
async def test_slow_disks_stop_nobody(file: FileIO) -> None:
    """A thread reads what is not in memory, and the reactor does not watch the connection
    meanwhile."""
    asked, disk = Asked(), Cold()
    sending = asked.begin(file, 0, 4 * ONE, cache=disk)
    asked.transport.doWrite()
    assert asked.transport not in asked.reactor.writers
    assert asked.sentLength == 0
    disk.arrived.set()
    received = b""
    while not sending.called:
        await until(lambda: sending.called or asked.transport in asked.reactor.writers)
        asked.transport.doWrite()
        received += asked.taken()
    assert received == bytes(range(256)) * (4 * ONE // 256)
    assert disk.loads == 4


def test_memory_that_others_need(file: FileIO) -> None:
    """For a client that is slow, it is looked again and again whether a file is in memory; not at
    each piece, for one that is not."""

    class Asking(PageCache):
        asked = 0

        def has(self, file: FileIO, start: int, end: int) -> bool:
            self.asked += 1
            return True

    for pause, least, most in ((0, 1, 1), (2, 10, 1000)):
        asked, cache = Asked(), Asking()
        sending = asked.begin(file, 0, 4 * ONE, cache=cache)
        while not sending.called:
            asked.turn()
            asked.reactor.clock.advance(pause)
        assert least <= cache.asked <= most


@pytest_twisted.ensureDeferred
async def test_clients_that_leave_a_slow_disk(file: FileIO) -> None:
    """A client may leave while a thread reads."""
    asked, disk = Asked(), Cold()
    sending = asked.begin(file, 0, 4 * ONE, cache=disk)
    asked.transport.doWrite()
    sending.addErrback(lambda _: None)
    sending.cancel()
    assert asked.bounds.sending == 0
    file.close()
    disk.arrived.set()
    await until(lambda: disk.loads == 1)
    assert asked.transport.doWrite() is None
    assert asked.taken() == b""


def test_page_cache(file: FileIO) -> None:
    """Bytes that were just loaded are in memory; none are of a file of which the kernel does not
    tell."""
    cache = PageCache()
    cache.load(file, 0, 4 * ONE)
    assert cache.has(file, 0, 4 * ONE)
    with FileIO("/proc/self/mem") as other:
        assert not cache.has(other, 0, 1)


@pytest.mark.parametrize("error", [None, ValueError("altered")])
def test_checks(file: FileIO, error: Exception | None) -> None:
    """After each piece the file is checked, and once more when all has left; nothing is sent
    behind a check that fails."""
    asked, checks = Asked(), [0]

    def check() -> None:
        checks[0] += 1
        if error is not None and checks[0] == 2:
            raise error

    sending = asked.begin(file, 0, 4 * ONE, check=check)
    failures: list[Any] = []
    sending.addErrback(lambda failure: failures.append(failure.value))
    pieces: list[int] = []
    while not sending.called:
        pieces.append(asked.turn())
    assert sum(pieces) == asked.sentLength
    if error is None:
        assert (failures, asked.sentLength, pieces.pop()) == ([], 4 * ONE, 0)
        assert checks == [len(pieces) + 1]
    else:
        assert (failures, checks, len(pieces)) == ([error], [2], 2)


def test_files_that_end_early(file: FileIO) -> None:
    """A file that is shorter than it was is an error."""
    asked = Asked()
    sending = asked.begin(file, 0, 5 * ONE)
    failures: list[Any] = []
    sending.addErrback(lambda failure: failures.append(failure.value))
    while not sending.called:
        asked.turn()
    assert [type(each) for each in failures] == [OSError]
    assert asked.sentLength == 4 * ONE


def test_where_the_kernel_cannot_send() -> None:
    """Of a file that the kernel can't send nothing is sent, and that is said."""
    asked = Asked()
    with FileIO("/proc/self/mem") as file:
        sending = asked.begin(file, 7, ONE)
        assert asked.turn() == 0
    found: list[int] = []
    sending.addCallback(found.append)
    assert found == [7]


def test_clients_that_have_left(file: FileIO) -> None:
    """To a client that has left nothing more is sent: the connection is closed."""
    asked = Asked()
    sending = asked.begin(file, 0, 4 * ONE)
    asked.client.close()
    assert isinstance(asked.transport.doWrite(), Exception)
    assert not sending.called
    sending.addErrback(lambda _: None)
    sending.cancel()
