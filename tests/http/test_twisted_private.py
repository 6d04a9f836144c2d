"""The private parts of Twisted that are used: they are there, and they mean what we think."""

import inspect
import socket
from typing import Any

import pytest
from twisted.internet.abstract import FileDescriptor
from twisted.internet.error import ConnectionLost
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.internet.tcp import Connection
from twisted.internet.testing import StringTransport
from twisted.protocols.basic import LineReceiver
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.web.http import HTTPChannel
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from nixery.http.twisted_private import OpenChannel, OpenRequest, OpenTLS, writing_by

REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


class SetReactor:
    """A reactor that watches nothing, but knows which connections it should watch."""

    def __init__(self) -> None:
        self.writers: set[Any] = set()

    def addWriter(self, writer: Any) -> None:
        self.writers.add(writer)

    def removeWriter(self, writer: Any) -> None:
        self.writers.discard(writer)

    def removeReader(self, reader: Any) -> None: ...

    def callLater(self, delay: float, call: Any, *args: Any) -> None: ...


class Silent(Resource):
    """Answers nothing for now, and keeps the requests."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[Request] = []

    def render(self, request: Request) -> int:
        self.requests.append(request)
        return NOT_DONE_YET


class Refusing(OpenChannel):
    """A connection that notes what Twisted finds to be malformed."""

    faults = 0
    version = b""

    def malformed(self) -> None:
        self.faults += 1
        self.stop_reading_requests()

    def allHeadersReceived(self) -> None:
        self.version = self.http_version
        super().allHeadersReceived()


@pytest.fixture
def resource() -> Silent:
    return Silent()


@pytest.fixture
def channel(resource: Silent) -> Any:
    site: Any = Site(resource, requestFactory=OpenRequest)
    made: Any = Refusing()
    made.site = made.factory = site
    made.requestFactory = site.requestFactory
    made.timeOut = None
    made.makeConnection(StringTransport())
    return made


METHODS = [
    (HTTPChannel, "_respondToBadRequestAndDisconnect"),
    (Request, "_handleStar"),
    (LineReceiver, "dataReceived"),
    (LineReceiver, "clearLineBuffer"),
]


@pytest.mark.parametrize(("owner", "name"), METHODS, ids=[name for _, name in METHODS])
def test_methods_that_are_overridden_or_called(owner: type, name: str) -> None:
    """A method that Twisted renames would never be called: it is there, and takes nothing new."""
    parameters = list(inspect.signature(getattr(owner, name)).parameters)
    assert parameters in (["self"], ["self", "data"])


ATTRIBUTES = ["_networkProducer", "_waitingForTransport", "_dataBuffer", "_buffer"]


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_attributes_of_connections(channel: Any, name: str) -> None:
    """What is read of a connection is there as soon as a request has come."""
    channel.dataReceived(REQUEST)
    assert hasattr(channel, name)


def test_tls() -> None:
    """A flag keeps Twisted from shutting TLS down when the connection above is lost."""
    assert issubclass(OpenTLS, TLSMemoryBIOProtocol)
    assert TLSMemoryBIOProtocol._lostTLSConnection is False
    assert "if not self._lostTLSConnection" in inspect.getsource(
        TLSMemoryBIOProtocol.connectionLost
    )


def test_heads_of_any_size(channel: Any, resource: Silent) -> None:
    """Twisted's own limits refuse no head that is smaller than ours."""
    channel.limit_head(100_000)
    lines = b"".join(b"X-%d: %b\r\n" % (number, b"y" * 100) for number in range(700))
    channel.read(REQUEST[:-2] + lines + b"\r\n")
    assert channel.faults == 0
    assert len(resource.requests) == 1
    assert channel.version == b"HTTP/1.1"


def test_malformed(channel: Any, resource: Silent) -> None:
    """What Twisted finds to be no request is ours to answer."""
    channel.read(b"GET /\r\n\r\n")
    assert channel.faults == 1
    assert resource.requests == []


def test_requests_behind_one(channel: Any, resource: Silent) -> None:
    """What comes while a request is answered waits in few pieces, and is read after that."""
    channel.read(REQUEST)
    for byte in REQUEST:
        channel.read(bytes([byte]))
        channel.join_pieces(4)
        assert len(channel._dataBuffer) <= 4
    assert len(resource.requests) == 1
    channel.paused = True
    resource.requests[0].finish()
    assert channel.has_unread
    channel.paused = False
    channel.read(b"")
    assert len(resource.requests) == 2
    assert not channel.has_unread


def test_full_transports(channel: Any) -> None:
    """A connection knows whether what was written has left."""
    assert not channel.is_full
    channel.pauseProducing()
    assert channel.is_full
    channel.resumeProducing()
    assert not channel.is_full


class Descriptor(FileDescriptor):
    """A transport that takes some bytes at once."""

    connected = 1

    def __init__(self, room: int | Exception) -> None:
        super().__init__(Clock())  # type: ignore[arg-type]
        self.room = room
        self.sent = b""

    def startWriting(self) -> None:
        pass

    def stopWriting(self) -> None:
        pass

    def writeSomeData(self, data: bytes) -> int | Exception:
        if isinstance(self.room, int):
            self.sent += data[: self.room]
            return min(self.room, len(data))
        return self.room


@pytest.mark.parametrize("room", [0, 3, 9, ConnectionLost()], ids=str)
def test_sending(channel: Any, room: int | Exception) -> None:
    """What the kernel takes leaves at once, and the rest with what is written later."""
    channel.transport = transport = Descriptor(room)
    assert not channel.has_unsent
    channel.send(b"abcdef")
    taken = min(room, 6) if isinstance(room, int) else 0
    assert channel.has_unsent == (taken < 6)
    assert transport.sent == b"abcdef"[:taken]
    transport.room = 100
    transport.doWrite()
    assert transport.sent == b"abcdef"
    assert not channel.has_unsent


def test_sending_through_others(channel: Any) -> None:
    """Any other transport is written to, and tells itself whether it is full."""
    channel.send(b"abc")
    assert channel.transport.value() == b"abc"
    assert not channel.has_unsent
    channel.pauseProducing()
    assert channel.has_unsent


def test_reading(channel: Any) -> None:
    """The transport is told when to read, and by whom no more."""
    transport = channel.transport
    channel.pause_reading()
    assert transport.producerState == "paused"
    channel.resume_reading()
    assert transport.producerState == "producing"
    assert transport.producer is not None
    channel.stop_reading_requests()
    assert transport.producer is None


def connected() -> tuple[Any, Any, socket.socket]:
    """A reactor, a connection that it watches, and the other end of that."""
    here, there = socket.socketpair()
    reactor: Any = SetReactor()
    transport = Connection(here, Protocol(), reactor)
    transport.connected = 1
    return reactor, transport, there


def test_writing() -> None:
    """Something else writes to a connection once all that was written before has left, and Twisted
    does again behind it."""
    reactor, transport, there = connected()
    calls: list[None] = []
    with there, transport.socket:
        transport.write(b"before")
        with writing_by(transport, lambda: calls.append(None)):
            assert transport.doWrite() is None
            assert (there.recv(100), calls) == (b"before", [])
            assert transport in reactor.writers
            assert transport.doWrite() is None
            assert calls == [None]
        transport.write(b"behind")
        transport.doWrite()
        assert (there.recv(100), calls) == (b"behind", [None])
        assert transport not in reactor.writers


def test_writing_ends_with_the_connection() -> None:
    """A connection that is aborted meanwhile is written to by nobody."""
    reactor, transport, there = connected()
    calls: list[None] = []
    with there, transport.socket, writing_by(transport, lambda: calls.append(None)):
        transport.abortConnection()
        assert transport not in reactor.writers
        assert transport.doWrite() is None
        assert calls == []


def test_star(channel: Any, resource: Silent) -> None:
    """A request for ``*`` reaches the site's resource."""
    channel.read(b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n")
    assert [request.path for request in resource.requests] == [b"*"]
