"""The HTTP side of the server: how requests come in and answers go out, also badly."""

from io import BytesIO
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakSet

from twisted.internet import reactor as _reactor
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel, datetimeToString
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site
from twisted.web.static import NoRangeStaticProducer

from tests.gcs.answers import Answer, Asked

if TYPE_CHECKING:
    from tests.gcs.bucket_server import BucketServer

reactor: Any = _reactor

_REASONS = {308: b"Resume Incomplete", 499: b"Client Closed Request"}


class BucketRequest(Request):
    """A request that may come slowly, be cut off, and be answered badly."""

    is_gone = False

    def __init__(self, server: "BucketServer", channel: HTTPChannel) -> None:
        super().__init__(channel)
        self._server = server
        self._whole = False

    def gotLength(self, length: int | None) -> None:
        """Keep bodies in memory."""
        self.content = BytesIO()

    def handleContentChunk(self, data: bytes) -> None:
        """Take a piece of the body, and wait a while if that is wanted."""
        super().handleContentChunk(data)
        delay = self._server.read_delay
        if delay:
            transport: Any = self.channel.transport
            transport.pauseProducing()
            reactor.callLater(delay, self._go_on, transport)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        self._whole = True
        self.method, self.uri = command, path
        super().requestReceived(command, path, version)

    def connectionLost(self, reason: Failure) -> None:
        """What came of the body until then may be kept."""
        self.is_gone = True
        if not self._whole and self.channel is not None:
            method, path = self.channel._command, self.channel._path
            self._server.cut_off(self.asked(method, path))
        super().connectionLost(reason)

    def asked(self, method: bytes, uri: bytes) -> Asked:
        """The request as a value."""
        path, _, query = uri.decode("ascii", "replace").partition("?")
        pairs = self.requestHeaders.getAllRawHeaders()
        headers = {name.decode().lower(): b",".join(values).decode() for name, values in pairs}
        body = cast(BytesIO, self.content).getvalue()
        return Asked(method.decode("ascii"), path, query, headers, body)

    def abort(self) -> None:
        """Lose the connection, at once."""
        transport: Any = self.channel.transport
        transport.abortConnection()

    def send(self, answer: Answer, now: float, truncate: bool) -> None:
        """Send an answer.

        :param now: what its date is, in seconds since 1970.
        :param truncate: whether to lose the connection in the middle of the body.
        """
        self.setResponseCode(answer.status, _REASONS.get(answer.status))
        self.setHeader(b"Date", datetimeToString(now))
        self.setHeader(b"Server", b"UploadServer")
        for name, value in answer.headers.items():
            self.setHeader(name.encode(), value.encode())
        if answer.status not in (204, 304):
            self.setHeader(b"Content-Length", b"%d" % len(answer.body))
        if truncate:
            self.write(answer.body[: len(answer.body) // 2])
            cast(Any, self.channel).loseConnection()
        elif answer.body and self.method != b"HEAD":
            NoRangeStaticProducer(self, BytesIO(answer.body)).start()
        else:
            self.write(b"")
            self.finish()

    def _go_on(self, transport: Any) -> None:
        if transport.connected and not transport.disconnecting:
            transport.resumeProducing()


class _Everything(Resource):
    isLeaf = True

    def __init__(self, server: "BucketServer") -> None:
        super().__init__()
        self._server = server

    def render(self, request: Request) -> int:
        own = cast(BucketRequest, request)
        self._server.serve(own, own.asked(own.method, own.uri))
        return NOT_DONE_YET


class BucketSite(Site):
    """Knows its connections."""

    def __init__(self, server: "BucketServer") -> None:
        self.server = server
        self._channels: WeakSet[HTTPChannel] = WeakSet()
        super().__init__(_Everything(server), requestFactory=self._make_request)

    @property
    def connections(self) -> int:
        """How many connections are open on which something was asked."""
        return sum(bool(getattr(each.transport, "connected", False)) for each in self._channels)

    def drop_all(self) -> None:
        """Lose all connections."""
        for channel in list(self._channels):
            if channel.transport is not None:
                cast(Any, channel.transport).abortConnection()

    def _make_request(self, channel: HTTPChannel, queued: object = None) -> BucketRequest:
        self._channels.add(channel)
        return BucketRequest(self.server, channel)
