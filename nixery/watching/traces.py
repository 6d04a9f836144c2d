"""Traces of pulls, for OpenTelemetry: sent to a collector over OTLP/HTTP by the standard library.

Its own variables (``OTEL_…``) are its settings. What a build did is read from its history once it
has ended. All this, and the library itself, is only there where a collector is named.
"""

import json
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Mapping
from contextlib import suppress
from threading import Thread
from typing import Any, Protocol

import attrs
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from nixery.history.record import Record
from nixery.history.subscription import Subscription
from nixery.history.summary import BuildHead
from nixery.model.event_json import parse
from nixery.model.open_telemetry import protocol_fault
from nixery.model.timeline import Step, Timeline
from nixery.reactor import IReactor, in_thread
from nixery.repeats import Repeats

_MOST_REQUESTS = 10_000
"""Requests that are running, or wait for a build, whose spans are in memory."""
_MOST_BUILDS = 100
"""Builds that have ended and whose history is yet to be read."""
_LAST = 3.0
"""Seconds in which the last spans can leave when the daemon stops."""
_LOG_LINE = b'"type":"log-line"'
_LEFT = 499


class IFollowed(Protocol):
    """The history of builds, as traces need it."""

    def follow(self, id: str, after: int) -> Awaitable[Subscription | None]:
        """See :meth:`nixery.history.history.History.follow`."""


@attrs.define
class _Asked:
    """A request that runs, or waits for a build.

    :param ended: whether it has its answer.
    :param traced: whether its build has ended.
    """

    span: Span
    ended: bool = False
    traced: bool = False


class Traces:
    """Makes spans of pulls and builds. Nothing waits for the collector: what it does not take in
    time is dropped by the library's queue, whose bounds are ``OTEL_BSP_…``."""

    _log = Logger()

    def __init__(self, reactor: IReactor, version: str, environ: Mapping[str, str]) -> None:
        """
        :param version: Nixery's.
        :param environ: says whether the operator names the service.
        """
        self._reactor = reactor
        self._remark = protocol_fault(environ)
        self._facts = {SERVICE_VERSION: version}
        named = "service.name=" in environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
        if not named and not environ.get("OTEL_SERVICE_NAME"):
            self._facts[SERVICE_NAME] = "nixery"
        self._provider: TracerProvider | None = None
        self._tracer: Tracer | None = None
        self._requests: OrderedDict[str, _Asked] = OrderedDict()
        self._reading = 0
        self._words = _Words(reactor)

    def start(self) -> None:
        """Begin to send, by a thread of the library's: not earlier, since twistd forks."""
        logging.getLogger("opentelemetry").addHandler(self._words)
        if self._remark is not None:
            self._log.warn("{remark}", remark=self._remark)
        try:
            self._begin()
        except ValueError as error:  # of a variable's value
            self._log.warn("no traces are sent: {error}", error=error)

    def _begin(self) -> None:
        resource = Resource.create(self._facts)
        exporter = OTLPSpanExporter()
        self._provider = provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = provider.get_tracer("nixery")

    async def stop(self) -> None:
        """Send what is left, for a moment; a collector that does not answer is not waited for."""
        provider, self._provider, self._tracer = self._provider, None, None
        if provider is None:
            logging.getLogger("opentelemetry").removeHandler(self._words)
            return
        over: Deferred[None] = Deferred()

        def end() -> None:
            if not over.called:
                over.callback(None)

        def send() -> None:
            provider.shutdown()
            # The reactor may be gone by then.
            with suppress(Exception):
                self._reactor.callFromThread(end)

        Thread(target=send, daemon=True).start()
        await over.addTimeout(_LAST, self._reactor, onTimeoutCancel=lambda *_: None)
        logging.getLogger("opentelemetry").removeHandler(self._words)

    def begin(self, id: str, name: str, reference: str, headers: Mapping[str, str]) -> None:
        """A pull's request for a manifest begins.

        :param id: the request's.
        :param headers: ``traceparent`` and ``tracestate``, if the client sent them.
        """
        if self._tracer is None:
            return
        separator = "@" if ":" in reference else ":"
        within = TraceContextTextMapPropagator().extract(dict(headers), Context())
        facts = {"nixery.image": f"{name}{separator}{reference}", "nixery.request": id}
        span = self._tracer.start_span("GET manifest", within, SpanKind.SERVER, facts)
        self._requests[id] = _Asked(span)
        if len(self._requests) > _MOST_REQUESTS:
            self._requests.popitem(last=False)

    def end(self, id: str, status: int, outcome: str, build: str) -> None:
        """It was answered, or its client has left.

        :param build: the ID of the build that it waited for, if it did.
        """
        asked = self._requests.get(id)
        if asked is None or asked.ended:
            return
        asked.ended, span = True, asked.span
        if asked.traced or not build:  # otherwise that build is to find it
            del self._requests[id]
        span.set_attribute("nixery.outcome", outcome)
        if build:
            span.set_attribute("nixery.build", build)
        if status != _LEFT:
            span.set_attribute("http.response.status_code", status)
        if status >= 500:
            span.set_status(StatusCode.ERROR)
        span.end()

    def built(self, record: Record, history: IFollowed) -> None:
        """A build has ended, whose spans belong below that of the request that it was made for."""
        asked = self._requests.get(record.request)
        if asked is not None:
            asked.traced = True
            if asked.ended:
                del self._requests[record.request]
        if self._tracer is None or self._reading >= _MOST_BUILDS:
            return
        self._reading += 1
        following = history.follow(record.id, 0)
        span = None if asked is None else asked.span
        reading = Deferred.fromCoroutine(self._read(record.head, span, following))
        reading.addErrback(lambda failure: self._log.failure("while tracing a build", failure))
        reading.addBoth(self._has_read)

    def _has_read(self, _: object) -> None:
        self._reading -= 1

    async def _read(
        self, head: BuildHead, asked: Span | None, following: Awaitable[Subscription | None]
    ) -> None:
        timeline, events = Timeline(), await following
        while events is not None and (block := await events.next()) is not None:
            await in_thread(self._reactor, _note_all, timeline, block.data)
        if (tracer := self._tracer) is not None:
            await in_thread(self._reactor, _SpanWriter(tracer).write, head, asked, timeline)


def _note_all(timeline: Timeline, lines: bytes) -> None:
    """Take a block of events. Blocks."""
    for line in lines.splitlines():
        if _LOG_LINE not in line[:80]:  # there may be millions of them
            made = json.loads(line)
            with suppress(ValueError):  # of another version
                timeline.note(parse(made), made["time"])


@attrs.frozen
class _SpanWriter:
    """Writes the spans of a build. Blocks."""

    tracer: Tracer

    def write(self, head: BuildHead, asked: Span | None, timeline: Timeline) -> None:
        """Write all.

        :param asked: the span of the request that the build was made for, if it is known.
        """
        context = Context() if asked is None else set_span_in_context(asked, Context())
        ended = max(head.started, head.ended or head.started)
        # Of a span that is not sampled, the library keeps no time.
        if (came := getattr(asked, "start_time", None)) is not None:
            facts = {"nixery.tag": head.tag}
            resolve = self._begin("resolve", context, min(came / 1e9, head.started), facts)
            resolve.end(_nanoseconds(head.started))
        steps = timeline.steps(ended)
        facts = {"nixery.build": head.id, "nixery.image": f"{head.name}:{head.tag}"}
        if head.digest:
            facts["nixery.digest"] = head.digest
        build = self._begin("make image", context, head.started, facts | timeline.facts)
        if head.state == "failed":
            build.set_status(Status(StatusCode.ERROR, head.error))
        spans: dict[Step | None, Span] = {None: build}
        for step in steps:
            within = set_span_in_context(spans[step.within], Context())
            spans[step] = self._begin(step.name, within, step.began, step.facts)
        for step in steps:
            self._end(spans[step], step, ended)
        build.end(_nanoseconds(ended))

    def _begin(self, name: str, within: Context, seconds: float, facts: Mapping[str, Any]) -> Span:
        return self.tracer.start_span(
            name, within, attributes=facts, start_time=_nanoseconds(seconds)
        )

    def _end(self, span: Span, step: Step, at_last: float) -> None:
        for name, seconds in step.marks:
            span.add_event(name, timestamp=_nanoseconds(seconds))
        if step.fault:
            span.set_status(Status(StatusCode.ERROR, step.fault))
        span.end(_nanoseconds(at_last if step.ended is None else step.ended))


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e6) * 1000


class _Words(logging.Handler):
    """Has the library's warnings in the daemon's log, each once in a while."""

    _log = Logger()

    def __init__(self, reactor: IReactor) -> None:
        super().__init__(logging.WARNING)
        self._reactor = reactor
        self._repeats = Repeats(reactor.seconds)

    def emit(self, record: logging.LogRecord) -> None:
        """Log a warning, from whichever thread."""
        with suppress(Exception):  # nobody is to fail for it
            self._reactor.callFromThread(self._warn, str(record.msg), record.getMessage())

    def _warn(self, same: str, words: str) -> None:
        self._repeats.warn(self._log, same, "traces: {words}", words=words)
