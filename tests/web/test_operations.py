"""What machines ask, at the registry's port and at one of its own."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_twisted
from prometheus_client import CollectorRegistry, Counter
from twisted.internet import reactor as _reactor
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol, serverFromString
from twisted.logger import LogEvent, capturedLogs, formatEvent

from nixery.watching.readiness import Readiness
from nixery.web.operations import Operations, OperationsSite
from tests.web.server import Collector, serving

reactor: Any = _reactor
GET = b"GET /healthz HTTP/1.1\r\nHost: x\r\n"


@asynccontextmanager
async def site() -> AsyncIterator[tuple[OperationsSite, int]]:
    """An endpoint for operations alone, and its port."""
    registry = CollectorRegistry()
    Counter("seen", "A counter.", registry=registry)
    made = OperationsSite(reactor, Operations(Readiness(reactor, {}), registry))
    port = await serverFromString(reactor, "tcp:0:interface=127.0.0.1").listen(made)
    try:
        yield made, port.getHost().port
    finally:
        await port.stopListening()


async def connect(port: int) -> Collector:
    endpoint = HostnameEndpoint(reactor, "127.0.0.1", port)
    made: Collector = await connectProtocol(endpoint, Collector())
    return made


def told_of(captured: Sequence[LogEvent]) -> list[str]:
    """What Twisted itself said of a request."""
    return [text for text in map(formatEvent, captured) if "HEAD request" in text]


def without_date(head: bytes) -> set[bytes]:
    return {line for line in head.splitlines() if not line.startswith(b"Date:")}


async def ask(port: int, request: bytes) -> bytes:
    """Send bytes, and say what comes until the connection is closed."""
    asking = await connect(port)
    asking.transport.write(request)  # type: ignore[union-attr]
    answer: bytes = await asking.closed
    return answer


@pytest_twisted.ensureDeferred
async def test_no_body_is_kept() -> None:
    """Bodies are refused at the port of operations, as elsewhere, and are kept nowhere."""
    async with site() as (_, port):
        post = b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 200000000\r\n\r\n"
        answer = await ask(port, post + b"x" * 100_000)
        assert answer.startswith(b"HTTP/1.1 413 ")


@pytest_twisted.ensureDeferred
async def test_connections_are_bounded() -> None:
    """Whoever opens connections without end keeps no others from asking."""
    async with site() as (made, port):
        most = made.bounds.limits.connections
        idle = [await connect(port) for _ in range(most + 20)]
        answer = await ask(port, GET + b"Connection: close\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert made.bounds.connections.open <= most
        for each in idle:
            each.transport.abortConnection()  # type: ignore[union-attr]
            await each.closed


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
async def test_heads(path: str) -> None:
    """HEAD is answered with the headers of GET, and that is no news."""
    async with site() as (_, port):
        rest = b" %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % path.encode("ascii")
        with capturedLogs() as captured:
            head, body = (await ask(port, b"HEAD" + rest)).split(b"\r\n\r\n", 1)
        whole, content = (await ask(port, b"GET" + rest)).split(b"\r\n\r\n", 1)
        assert body == b""
        assert without_date(head) == without_date(whole)
        assert b"Content-Length: %d" % len(content) in whole
        assert told_of(captured) == []


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("path", ["/v2/", "/nothing?token=secret", "/v2/x/manifests/a!b", "/"])
async def test_heads_at_the_registry(path: str) -> None:
    """The log has no word of a client's HEAD but the one line of a pull."""
    async with serving() as server:
        with capturedLogs() as captured:
            head = await server.ask(path, "HEAD")
        whole = await server.ask(path)
        assert (head.status, head.body) == (whole.status, b"")
        assert head.headers["content-length"] == whole.headers["content-length"]
        assert told_of(captured) == []
