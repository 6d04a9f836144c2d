"""OpenTelemetry's own variables, as far as they say whether traces are sent: pure.

https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
"""

from collections.abc import Mapping

_FOR_TRACES = "OTEL_EXPORTER_OTLP_TRACES_{}"
_FOR_ALL = "OTEL_EXPORTER_OTLP_{}"
PROTOCOL = "http/protobuf"
"""The only one that is spoken."""


def collector_of(environ: Mapping[str, str]) -> str | None:
    """The URL of the collector that traces are sent to; None if they are not sent."""
    off = environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
    if off or (environ.get("OTEL_TRACES_EXPORTER") or "otlp") != "otlp":
        return None
    return _variable(environ, "ENDPOINT")


def protocol_fault(environ: Mapping[str, str]) -> str | None:
    """A sentence if another protocol is asked for than the one that is spoken."""
    asked = _variable(environ, "PROTOCOL") or PROTOCOL
    if asked == PROTOCOL:
        return None
    return f"OTEL_EXPORTER_OTLP_PROTOCOL is {asked!r}; traces are sent by {PROTOCOL} alone"


def _variable(environ: Mapping[str, str], name: str) -> str | None:
    names = (_FOR_TRACES.format(name), _FOR_ALL.format(name))
    return next(filter(None, map(environ.get, names)), None)
