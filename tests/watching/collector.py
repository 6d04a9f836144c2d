"""A collector of OpenTelemetry's traces, which keeps the spans that it is sent."""

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import attrs
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span as SentSpan


@attrs.define
class TestCollector:
    """What has come to a collector.

    :ivar url: for ``OTEL_EXPORTER_OTLP_ENDPOINT``.
    :ivar resources: the attributes of those who sent something.
    """

    __test__ = False

    url: str = ""
    spans: list[SentSpan] = attrs.Factory(list)
    resources: list[dict[str, str]] = attrs.Factory(list)

    def named(self, name: str) -> list[SentSpan]:
        """The spans of a name."""
        return [span for span in list(self.spans) if span.name == name]

    def take(self, data: bytes) -> None:
        """Take a request's body."""
        for each in ExportTraceServiceRequest.FromString(data).resource_spans:
            self.resources.append({a.key: a.value.string_value for a in each.resource.attributes})
            for scope in each.scope_spans:
                self.spans += scope.spans


def facts(span: SentSpan) -> dict[str, str | int]:
    """The attributes of a span."""
    return {each.key: each.value.string_value or each.value.int_value for each in span.attributes}


@contextmanager
def collecting() -> Iterator[TestCollector]:
    """A collector on this machine, for the length of a block."""
    found = TestCollector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            found.take(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200 if self.path == "/v1/traces" else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments: Any) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
