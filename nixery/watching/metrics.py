"""The daemon's metrics, in the format of Prometheus.

No label value is chosen by clients, so that the number of series is bounded.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Protocol

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    Info,
    disable_created_metrics,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from nixery.model.reading import Reading

_SECONDS = (0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 600, 1800, 3600)
_SHORT = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 30)

_ALARMING = ("busy", "unavailable", "error")


class IMeasured(Protocol):
    """A part of the daemon that knows metrics of its own."""

    def readings(self) -> Sequence[Reading]:
        """Its metrics."""


class _Readings(Collector):
    """Reads the parts."""

    def __init__(self, readings: Iterable[Reading]) -> None:
        self._readings = list(readings)

    def collect(self) -> Iterator[Metric]:
        """All metrics, as they are now; values of one name are in one metric."""
        found: dict[str, CounterMetricFamily | GaugeMetricFamily] = {}
        for each in self._readings:
            family = CounterMetricFamily if each.total else GaugeMetricFamily
            labels = [each.label] if each.label else []
            metric = found.setdefault(each.name, family(each.name, each.help, labels=labels))
            for value, number in each.values().items():
                metric.add_metric([value] if each.label else [], number)
        yield from found.values()


class Metrics:
    """All metrics: those counted here, and those read from the parts."""

    def __init__(self, version: str) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        at = self.registry
        Info("nixery", "The daemon.", registry=at).info({"version": version})
        self._pulls = Counter(
            "nixery_pulls",
            "Manifests that were asked for, by tag or by digest, and how that ended.",
            ["by", "outcome"],
            registry=at,
        )
        # To Prometheus, a counter that is first seen at 1 has not grown: these are seen at 0.
        for by in ("tag", "digest"):
            for outcome in _ALARMING:
                self._pulls.labels(by, outcome)
        self._requests = Counter(
            "nixery_http_requests", "Requests that were answered.", ["kind", "status"], registry=at
        )
        self._sent = Counter(
            "nixery_http_sent_bytes", "Bytes of answers' bodies.", ["kind"], registry=at
        )
        self._times = Histogram(
            "nixery_http_seconds",
            "From a request to the end of its answer.",
            ["kind"],
            buckets=_SHORT,
            registry=at,
        )
        self._builds = Counter(
            "nixery_builds", "Builds that ended, and how.", ["outcome"], registry=at
        )
        self._builds.labels("done")  # as above
        self._phases = Histogram(
            "nixery_build_seconds",
            "What builds took: in the queue, for Nix, for layers.",
            ["phase"],
            buckets=_SECONDS,
            registry=at,
        )
        self._layers = Counter(
            "nixery_layers", "Layers of images that were made.", ["origin"], registry=at
        )
        self._packed = Counter(
            "nixery_packed_bytes", "Bytes of layers that were made, compressed.", registry=at
        )
        self._lag = Histogram(
            "nixery_reactor_lag_seconds",
            "How late the reactor is.",
            buckets=_SHORT,
            registry=at,
        )
        ProcessCollector(registry=at)
        # To look a series up takes as long as to count in it.
        self._pulls_of = cache(self._pulls.labels)
        self._answers_of = cache(self._series_of)

    def read_from(self, parts: Iterable[IMeasured]) -> None:
        """Have the metrics of some parts shown, as they are whenever somebody asks."""
        self.registry.register(_Readings([one for part in parts for one in part.readings()]))

    def pulled(self, by: str, outcome: str) -> None:
        """A manifest was asked for.

        :param by: ``tag`` or ``digest``.
        """
        self._pulls_of(by, outcome).inc()

    def answered(self, kind: str, status: int, sent: int, seconds: float) -> None:
        """A request was answered.

        :param sent: bytes of the body.
        """
        requests, sizes, times = self._answers_of(kind, status)
        requests.inc()
        sizes.inc(sent)
        times.observe(seconds)

    def _series_of(self, kind: str, status: int) -> tuple[Counter, Counter, Histogram]:
        requests = self._requests.labels(kind, str(status))
        return requests, self._sent.labels(kind), self._times.labels(kind)

    def built(self, outcome: str, phases: Mapping[str, float], packed: Mapping[str, int]) -> None:
        """A build ended.

        :param phases: seconds by phase.
        :param packed: ``known`` and ``made`` layers, and the ``bytes`` of these.
        """
        self._builds.labels(outcome).inc()
        for phase, seconds in phases.items():
            self._phases.labels(phase).observe(seconds)
        for origin in ("known", "made"):
            self._layers.labels(origin).inc(packed.get(origin, 0))
        self._packed.inc(packed.get("bytes", 0))

    def late(self, seconds: float) -> None:
        """The reactor was late."""
        self._lag.observe(seconds)
