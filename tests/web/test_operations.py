"""What is watched at an endpoint of its own: as bounded as what clients reach."""

import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from typing import Any

import pytest
import pytest_twisted
from prometheus_client import CollectorRegistry, Gauge
from twisted.internet.defer import maybeDeferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.logger import LogEvent, capturedLogs, formatEvent

from nixery.model.limits import HttpLimits
from nixery.model.service_errors import StorageUnavailable
from nixery.storage.memory import MemoryStorage
from nixery.watching.readiness import Check, Readiness
from nixery.web.operations import MOST_CONNECTIONS, Operations, OperationsSite
from tests.web.server import FakeBuilder, Server, reactor, serving
from tests.web.test_bad_input import GET, statuses


@asynccontextmanager
async def watched(
    limits: HttpLimits | None = None,
    checks: Mapping[str, Check] | None = None,
    private: bool = False,
) -> AsyncIterator[Server]:
    """Serve health and metrics for the length of a block."""
    registry = CollectorRegistry()
    Gauge("answer", "Of everything.", registry=registry).set(42)
    operations = Operations(Readiness(reactor, checks or {}), registry, private)
    site: Any = OperationsSite(operations, reactor, limits or HttpLimits())
    port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(site)
    try:
        yield Server(FakeBuilder(), MemoryStorage(), port.getHost().port, site)
    finally:
        await maybeDeferred(port.stopListening)


ACCEPTED = {
    "nothing": "",
    "text": "text/plain",
    "OpenMetrics": "application/openmetrics-text; version=1.0.0",
    "no version": "application/openmetrics-text; version=abc",
    "an odd version": "text/plain; version=x",
    "a version without end": "text/plain; version=1." + "9" * 5000,
    "nonsense": ";;;,,,===",
}


@pytest.mark.parametrize("accept", ACCEPTED.values(), ids=ACCEPTED)
@pytest_twisted.ensureDeferred
async def test_metrics_in_whatever_form(accept: str) -> None:
    """Metrics are told in a form of ours, whatever a client says that it takes."""
    async with watched() as server:
        answer = await server.ask("/metrics", headers={"Accept": accept})
        assert answer.status == 200
        assert b"answer 42.0" in answer.body
        assert answer.headers["x-request-id"]


PROBES = {
    "HTTP/1.0 without Host": b"GET /healthz HTTP/1.0\r\n\r\n",
    "HTTP/1.0 with keep-alive": b"GET /healthz HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    "absolute form": b"GET http://x/healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
}


@pytest.mark.parametrize("probe", PROBES.values(), ids=PROBES)
@pytest_twisted.ensureDeferred
async def test_probes(probe: bytes) -> None:
    """Load balancers that ask in HTTP/1.0, or in absolute form, learn how the daemon is."""
    async with watched() as server:
        assert statuses(await server.send(probe)) == [200]


@pytest_twisted.ensureDeferred
async def test_tls() -> None:
    """A TLS handshake is answered here too."""
    async with watched() as server:
        answer = await server.send(b"\x16\x03\x01")
        assert statuses(answer) == [400]
        assert b"use http://" in answer


@pytest_twisted.ensureDeferred
async def test_bodies_are_refused() -> None:
    """Nobody can fill a disk by sending something to those who watch."""
    body = b"POST" + GET[3:] + b"Content-Length: 10000000\r\n\r\n"
    chunks = (
        b"POST"
        + GET[3:]
        + b"Transfer-Encoding: chunked\r\n\r\n"
        + b"400\r\n%s\r\n" % (b"x" * 1024) * 100
    )
    async with watched() as server:
        for request in (body, chunks):
            assert statuses(await server.send(request)) == [413]


@pytest_twisted.ensureDeferred
async def test_slow_clients_are_closed() -> None:
    """A request that does not come is not waited for longer than at the other endpoint."""
    async with watched(HttpLimits(header_seconds=1)) as server:
        # One that does not even begin in its time is closed without a word.
        while not (answer := await server.send(b"GET /healthz HT")):
            pass
        assert statuses(answer) == [408]


@pytest_twisted.ensureDeferred
async def test_half_open_connections_make_room_for_probes() -> None:
    """However many connect and ask nothing, there are only so many, and a probe is answered."""
    async with watched() as server:
        assert server.bounds.limits.connections == MOST_CONNECTIONS
    async with watched(HttpLimits(connections=3)) as server:
        with ExitStack() as stack:
            for _ in range(10):
                stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            await server.until(lambda: server.bounds.refused["idle_for_others"] == 7)
            assert (await server.ask("/healthz")).body == b"ok\n"
            assert server.bounds.refused["idle_for_others"] == 8
        await server.until(lambda: server.bounds.connections.open == 0)


async def read_only() -> str:
    raise StorageUnavailable("Read-only file system (/srv/images/builds/x)")


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("accept", ["text/plain", "application/json"])
@pytest.mark.parametrize("private", [False, True])
async def test_where_a_fault_lies(private: bool, accept: str) -> None:
    """Anybody is told what is wrong; operators, and the log, where as well."""
    with capturedLogs() as captured:
        async with watched(checks={"storage": read_only}, private=private) as server:
            answer = await server.ask("/readyz", headers={"Accept": accept})
    assert answer.status == 503
    assert b"Read-only file system" in answer.body
    assert (b"/srv/images" in answer.body) == private
    assert any("/srv/images/builds/x" in (formatEvent(each) or "") for each in captured)


def told_of(captured: Sequence[LogEvent]) -> list[str]:
    """What Twisted itself said of a request."""
    return [text for text in map(formatEvent, captured) if "HEAD request" in text]


async def assert_head_is_silent(server: Server, path: str) -> None:
    with capturedLogs() as captured:
        head = await server.ask(path, "HEAD")
    whole = await server.ask(path)
    assert (head.status, head.body) == (whole.status, b"")
    for name in ("content-type", "content-length"):
        assert head.headers[name] == whole.headers[name]
    assert told_of(captured) == []


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
async def test_heads(path: str) -> None:
    """HEAD is answered with the headers of GET, and that is no news."""
    async with watched() as server:
        await assert_head_is_silent(server, path)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("path", ["/v2/", "/nothing?token=secret", "/v2/x/manifests/a!b", "/"])
async def test_heads_at_the_registry(path: str) -> None:
    """The log has no word of a client's HEAD but the one line of a pull."""
    async with serving() as server:
        await assert_head_is_silent(server, path)
