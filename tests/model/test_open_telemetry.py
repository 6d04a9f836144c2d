"""Whether, and where, traces are sent."""

import pytest

from nixery.model.open_telemetry import collector_of, protocol_fault

URL = "http://collector:4318"


@pytest.mark.parametrize(
    ("environ", "collector"),
    [
        ({}, None),
        ({"OTEL_SERVICE_NAME": "nixery", "OTEL_TRACES_SAMPLER": "always_on"}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": URL}, URL),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{URL}/v1/traces"}, f"{URL}/v1/traces"),
        (
            {
                "OTEL_EXPORTER_OTLP_ENDPOINT": "http://other:4318",
                "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": URL,
            },
            URL,
        ),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": URL, "OTEL_SDK_DISABLED": "True"}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": URL, "OTEL_SDK_DISABLED": "false"}, URL),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": URL, "OTEL_TRACES_EXPORTER": "none"}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": URL, "OTEL_TRACES_EXPORTER": "otlp"}, URL),
    ],
)
def test_collector(environ: dict[str, str], collector: str | None) -> None:
    """Traces are sent where the environment names a collector, unless it says that they are off."""
    assert collector_of(environ) == collector


def test_protocol() -> None:
    """Another protocol than the one that is spoken is told, with the one that is."""
    assert protocol_fault({}) is None
    assert protocol_fault({"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}) is None
    fault = protocol_fault({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"})
    assert fault is not None
    assert "'grpc'" in fault
    assert "http/protobuf" in fault
    both = {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
    assert protocol_fault({**both, "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf"}) is None
