"""What is counted."""

import re
from pathlib import Path
from typing import Any

from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from twisted.internet import reactor as _reactor

from nixery.daemon import Registry
from nixery.model.reading import Reading
from nixery.settings import Settings
from nixery.watching.metrics import Metrics

reactor: Any = _reactor
PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"


def values(metrics: Metrics) -> dict[tuple[str, ...], float]:
    families = text_string_to_metric_families(generate_latest(metrics.registry).decode())
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
    }


def test_seen_from_the_start() -> None:
    """What alerts look for the growth of is there before it has happened once."""
    found = values(Metrics("1"))
    assert found["nixery_pulls_total", "tag", "error"] == 0
    assert found["nixery_builds_total", "done"] == 0


def test_counted() -> None:
    """What happens is counted under its name."""
    metrics = Metrics("1")
    metrics.pulled("tag", "known")
    metrics.pulled("tag", "known")
    metrics.answered("blob", 200, 1000, 0.5)
    metrics.built("done", {"nix": 2.0}, {"known": 1, "made": 2, "bytes": 300})
    metrics.late(0.1)
    found = values(metrics)
    assert found["nixery_pulls_total", "tag", "known"] == 2
    assert found["nixery_http_sent_bytes_total", "blob"] == 1000
    assert found["nixery_http_requests_total", "blob", "200"] == 1
    assert found["nixery_build_seconds_sum", "nix"] == 2
    assert found["nixery_layers_total", "made"] == 2
    assert found["nixery_packed_bytes_total",] == 300
    assert found["nixery_reactor_lag_seconds_sum",] == 0.1


class Part:
    """A part of the daemon with metrics."""

    def __init__(self, *readings: Reading) -> None:
        self._readings = readings

    def readings(self) -> tuple[Reading, ...]:
        return self._readings


def test_read() -> None:
    """What the parts know is read when somebody asks, not before; parts may share a metric."""
    metrics, count = Metrics("1"), [0]
    one = Part(
        Reading("x", "X.", lambda: count[0]),
        Reading("y", "Y.", lambda: {"a": count[0]}, "kind", total=True),
    )
    metrics.read_from([one, Part(Reading("y", "Y.", lambda: {"b": 1}, "kind", total=True))])
    count[0] = 7
    found = values(metrics)
    assert (found["x",], found["y_total", "a"], found["y_total", "b"]) == (7, 7, 1)


def test_every_metric_is_documented(tmp_path: Path) -> None:
    """The page on metrics has all of them, with their labels, and no others."""
    environ = {"STATE_DIRECTORY": str(tmp_path), "NIXERY_PKGS_PATH": str(tmp_path)}
    environ |= {"NIXERY_WORKERS": "2", "NIXERY_NOTIFY_URL": "http://127.0.0.1:1/"}
    registry = Registry(reactor, Settings.from_environ(environ), environ)
    families = text_string_to_metric_families(generate_latest(registry.metrics.registry).decode())
    names = {f.name + "_total" * (f.type == "counter") for f in families}
    documented = re.findall(r"^\| `([a-z_]+)`", PAGE.read_text("utf-8"), re.MULTILINE)
    ours = {name for name in names if not name.startswith("process_")}
    assert sorted(documented) == sorted(ours)
