"""Traces of the real daemon, and the addresses at which it listens."""

import http.client
import re

import pytest

from tests.e2e.conftest import StartDaemon
from tests.e2e.daemon import Daemon
from tests.waiting import HUNG, wait_until
from tests.watching.collector import collecting, facts

pytestmark = pytest.mark.real_nix

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def test_a_pull_is_traced(start_daemon: StartDaemon) -> None:
    """The spans of a pull, and of the build that it waits for, come to the collector, in the
    client's trace and with the times that the history has; a collector that has gone by the end
    keeps nothing from working, nor the daemon from ending."""
    with collecting() as collector:
        daemon = start_daemon(
            OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
            OTEL_SERVICE_NAME="registry",
            OTEL_BSP_SCHEDULE_DELAY="100",
        )
        path = "/v2/hello/manifests/latest"
        while (answer := daemon.get(path, traceparent=f"00-{TRACE}-{PARENT}-01")).status == 307:
            path = answer.headers["Location"]
        assert answer.status == 200
        wait_until(lambda: bool(collector.named("make image") and collector.named("GET manifest")))
        (build,) = collector.named("make image")
        assert {span.trace_id.hex() for span in collector.spans} == {TRACE}
        names = {span.name for span in collector.spans}
        assert names >= {"resolve", "evaluate", "furnish", "pack", "store"}
        within = {bytes(span.span_id): span.name for span in collector.spans}
        assert within[build.parent_span_id] == "GET manifest"
        for name in ("evaluate", "furnish", "pack"):
            (step,) = collector.named(name)
            assert within[step.parent_span_id] == "make image"
        head = daemon.get(f"/builds/{facts(build)['nixery.build']}").json()
        assert abs(build.start_time_unix_nano / 1e9 - head["started"]) < 0.001
        assert abs(build.end_time_unix_nano / 1e9 - head["ended"]) < 0.001
        assert collector.resources[0]["service.name"] == "registry"
    assert daemon.pull("hello").status == 200
    assert daemon.stop() == 0


def addressed(daemon: Daemon, host: str) -> str:
    """What is said of a pull that comes by an address of this machine."""
    connection = http.client.HTTPConnection(host, daemon.port, timeout=HUNG)
    connection.request("GET", "/v2/hello/manifests/latest")
    answer = connection.getresponse()
    assert answer.status in (200, 307)
    request = answer.headers["X-Request-ID"]
    answer.read()
    connection.close()
    lines: list[str] = []

    def logged() -> bool:
        lines[:] = [line for line in daemon.log.splitlines() if f"{request} GET" in line]
        return bool(lines)

    wait_until(logged)
    return lines[0]


@pytest.mark.parametrize("workers", ["1", "2"])
def test_both_families(start_daemon: StartDaemon, workers: str) -> None:
    """The daemon is reached at ``localhost`` by IPv6 and by IPv4, whichever process answers, and
    knows clients of IPv4 by the addresses that they have."""
    daemon = start_daemon(NIXERY_WORKERS=workers)
    assert daemon.pull("hello").status == 200
    for host in ("127.0.0.1", "::1"):
        for _ in range(3):
            line = addressed(daemon, host)
            assert re.search(rf" for {re.escape(host)}: known", line), line
    assert "::ffff:" not in daemon.log
