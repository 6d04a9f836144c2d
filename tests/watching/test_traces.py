"""Traces of pulls and builds, as a collector gets them."""

import os
import socket
import subprocess
import sys
from itertools import islice
from pathlib import Path

import pytest
import pytest_twisted
from opentelemetry.proto.trace.v1.trace_pb2 import Span as SentSpan
from opentelemetry.proto.trace.v1.trace_pb2 import Status as SentStatus
from twisted.logger import capturedLogs, formatEvent

from nixery.history.record import Record
from nixery.model import events
from nixery.watching.traces import Traces
from tests.history.histories import open_history, print_lines, reactor
from tests.model.test_timeline import DIGEST, USUAL
from tests.waiting import until
from tests.watching.collector import TestCollector, collecting, facts

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"
TOLD = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "vendor=1"}


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variables but those of the test, and spans that leave soon."""
    for name in list(os.environ):
        if name.startswith("OTEL_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")


def traces() -> Traces:
    made = Traces(reactor, "1.2.3", os.environ)
    made.start()
    return made


def play(record: Record, made: list[events.Event] = USUAL) -> None:
    """Have a build's events happen, with lines of a log among them."""
    for event in made[:-1]:
        record.emit(event)
        print_lines(record, 20)
    if isinstance(made[-1], events.Failed):
        record.failed(made[-1].message, made[-1].derivation)
    else:
        record.done(DIGEST)


async def pulled(
    folder: Path, made: list[events.Event] = USUAL, told: dict[str, str] = TOLD
) -> TestCollector:
    """What a collector gets of a pull, of which the build has some events."""
    with collecting() as collector, pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        tracing = traces()
        history = await open_history(folder)
        tracing.begin("r1", "git", "latest", told)
        record = history.begin("0" * 64, "git", "latest", "r1")
        play(record, made)
        tracing.built(record, history)
        tracing.end("r1", 200, "made", record.id)
        await until(lambda: bool(collector.named("make image")))
        await tracing.stop()
        await history.stop()
        return collector


@pytest_twisted.ensureDeferred
async def test_a_pull(tmp_path: Path) -> None:
    """A pull that waits for a build is one trace, which the client's own goes on in: the request,
    and below it the build, with a span for each of its steps, derivations and layers."""
    collector = await pulled(tmp_path)
    names = {bytes(span.span_id): span.name for span in collector.spans}
    parents = sorted((span.name, names.get(span.parent_span_id, "")) for span in collector.spans)
    assert parents == sorted(
        [
            ("GET manifest", ""),
            ("resolve", "GET manifest"),
            ("make image", "GET manifest"),
            ("queue", "make image"),
            ("evaluate", "make image"),
            ("realise", "make image"),
            ("build", "realise"),
            ("build", "realise"),
            ("furnish", "make image"),
            ("pack", "make image"),
            ("store", "pack"),
        ]
    )
    assert {span.trace_id.hex() for span in collector.spans} == {TRACE}
    (request,) = collector.named("GET manifest")
    assert request.parent_span_id.hex() == PARENT
    assert request.trace_state == "vendor=1"
    assert request.kind == SentSpan.SPAN_KIND_SERVER
    assert facts(request)["nixery.image"] == "git:latest"
    assert facts(request)["http.response.status_code"] == 200
    (build,) = collector.named("make image")
    assert facts(build)["nixery.build"] == facts(request)["nixery.build"]
    assert facts(build)["nixery.revision"] == "r1"
    zlib = collector.named("build")[0]
    assert facts(zlib)["nixery.derivation"] == "zlib-1"
    assert [event.name for event in zlib.events] == ["buildPhase"]
    for span in collector.spans:
        assert span.start_time_unix_nano <= span.end_time_unix_nano
        if parent := [each for each in collector.spans if each.span_id == span.parent_span_id]:
            # Times of events are kept in milliseconds.
            assert parent[0].start_time_unix_nano - 1e6 <= span.start_time_unix_nano
    last = max(span.end_time_unix_nano for span in collector.spans if span is not request)
    assert last <= build.end_time_unix_nano + 1e6
    assert (
        collector.resources[0].items()
        >= {"service.name": "nixery", "service.version": "1.2.3"}.items()
    )


@pytest_twisted.ensureDeferred
async def test_a_failure(tmp_path: Path) -> None:
    """Of a build that fails, the spans say so that it failed in, with the reason."""
    failed = events.Failed("it does not compile", "git-2.39")
    collector = await pulled(tmp_path, [*USUAL[:8], failed])
    wrong = {
        span.name for span in collector.spans if span.status.code == SentStatus.STATUS_CODE_ERROR
    }
    assert wrong == {"make image", "realise", "build"}
    (build,) = collector.named("make image")
    assert build.status.message == "it does not compile"


@pytest_twisted.ensureDeferred
async def test_a_client_without_a_trace(tmp_path: Path) -> None:
    """A pull of a client that says nothing, or nonsense, of a trace begins one."""
    for told in ({}, {"traceparent": "00-nonsense"}, {"traceparent": "", "tracestate": "a=b"}):
        collector = await pulled(tmp_path, told=told)
        (request,) = collector.named("GET manifest")
        assert not request.parent_span_id
        assert {span.trace_id for span in collector.spans} == {request.trace_id}


@pytest_twisted.ensureDeferred
async def test_not_sampled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the operator's sampler leaves out is not sent, nor what the client's trace does."""
    with collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        monkeypatch.setenv("OTEL_SERVICE_NAME", "registry")
        tracing = traces()
        history = await open_history(tmp_path)
        for id, flag in (("r1", "00"), ("r2", "01")):
            tracing.begin(id, "git", "latest", {"traceparent": f"00-{TRACE}-{PARENT}-{flag}"})
            record = history.begin("0" * 64, "git", "latest", id)
            play(record)
            tracing.built(record, history)
            tracing.end(id, 200, "made", record.id)
        await until(lambda: bool(collector.named("make image")))
        await tracing.stop()
        await history.stop()
        (request,) = collector.named("GET manifest")
        assert facts(request)["nixery.request"] == "r2"
        assert len(collector.named("make image")) == 1
        assert collector.resources[0]["service.name"] == "registry"


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("listens", [True, False])
async def test_a_collector_that_is_gone(monkeypatch: pytest.MonkeyPatch, listens: bool) -> None:
    """Nothing is held up by a collector that does not answer, nor by one that does not listen: not
    the pulls, and not the end; the log says so, and not for each batch."""
    with socket.socket() as collector:
        collector.bind(("127.0.0.1", 0))
        if listens:
            collector.listen()
        url = f"http://127.0.0.1:{collector.getsockname()[1]}"
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
        monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "20")
        monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "5")
        tracing = traces()
        numbers = iter(range(1_000_000))
        with capturedLogs() as captured:

            def told_while_more_come() -> bool:
                # The library itself says the same once in 20 s, in however many tests.
                for number in islice(numbers, 5):
                    tracing.begin(f"r{number}", "git", "latest", {})
                    tracing.end(f"r{number}", 200, "known", "")
                return any("traces: " in (formatEvent(each) or "") for each in captured)

            await until(told_while_more_come)
            await tracing.stop()
        # Other parts of the process may say something meanwhile.
        lines = [formatEvent(each) or "" for each in captured]
        told = [line for line in lines if "traces: " in line]
        assert told
        assert all(line.startswith("traces: ") for line in told)
        assert len(told) == len(set(told))


@pytest_twisted.ensureDeferred
async def test_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests whose builds never end take a bounded number of spans; what was never begun, or
    comes before the start and after the end, is passed over."""
    monkeypatch.setattr("nixery.watching.traces._MOST_REQUESTS", 10)
    tracing = Traces(reactor, "1.2.3", os.environ)
    tracing.begin("r", "git", "latest", {})
    tracing.end("r", 200, "known", "")
    with collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        tracing.start()
        for number in range(50):
            tracing.begin(f"r{number}", "git", "latest", {})
        for number in range(50):
            tracing.end(f"r{number}", 307, "held", "b1")
        await tracing.stop()
        asked = [facts(span)["nixery.request"] for span in collector.named("GET manifest")]
    assert asked == [f"r{number}" for number in range(40, 50)]


@pytest_twisted.ensureDeferred
async def test_a_wrong_value(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable whose value can't be used is told to the log; pulls go on without traces."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "soon")
    with capturedLogs() as captured:
        tracing = traces()
        tracing.begin("r1", "git", "latest", {})
        tracing.end("r1", 200, "known", "")
        await tracing.stop()
    told = [formatEvent(each) or "" for each in captured]
    assert "'grpc'" in told[0]
    assert any("soon" in line for line in told)


def test_free_when_off() -> None:
    """Without a collector, nothing of the library is loaded with the daemon."""
    script = (
        "import nixery.tap, nixery.daemon, sys;"
        "print(*(name for name in sys.modules if name.startswith('opentelemetry')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == ""
