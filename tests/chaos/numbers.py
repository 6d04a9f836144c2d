"""What happened in a run: pulls by outcome, faults by kind, how long answers took, what broke."""

import threading
import time
from collections import Counter

import attrs

_MOST_VIOLATIONS = 50


@attrs.frozen
class Image:
    """An image as it was pulled.

    :param digest: of its manifest.
    :param package_layers: the digests of all layers but the top one.
    """

    digest: str
    package_layers: list[str]


class Numbers:
    """Counts from many threads.

    :ivar bytes_verified: bytes of blobs whose digest was right.
    """

    def __init__(self) -> None:
        self.pulls: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.bytes_verified = 0
        self.violations: list[str] = []
        self._latencies: dict[str, list[float]] = {}
        self._digests: dict[tuple[str, ...], str] = {}
        self._layers: dict[tuple[str, ...], list[str]] = {}
        self._lock = threading.Lock()
        self._start = time.monotonic()

    def pulled(self, outcome: str) -> None:
        """Count a pull that ended well, or was refused honestly, by how."""
        with self._lock:
            self.pulls[outcome] += 1

    def fault(self, kind: str) -> None:
        """Count a fault that was injected."""
        with self._lock:
            self.faults[kind] += 1

    def verified(self, count: int) -> None:
        """Count bytes that were right."""
        with self._lock:
            self.bytes_verified += count

    def latency(self, what: str, seconds: float) -> None:
        """Note how long a client waited for an answer's headers."""
        with self._lock:
            self._latencies.setdefault(what, []).append(seconds)

    def violated(self, what: str) -> None:
        """Note something that must not happen, whatever the faults are."""
        with self._lock:
            if len(self.violations) < _MOST_VIOLATIONS:
                self.violations.append(f"{self.elapsed:.1f} s: {what}")

    def same_image(self, contents: tuple[str, ...], revision: str, image: Image) -> None:
        """Compare an image with all earlier ones of the same contents: the digest is that of those
        of the same revision, and the packages' layers are those of all."""
        with self._lock:
            digest = self._digests.setdefault((*contents, revision), image.digest)
            layers = self._layers.setdefault(contents, image.package_layers)
        if digest != image.digest:
            self.violated(
                f"{contents} of {revision} had the digest {digest} and has {image.digest}"
            )
        if layers != image.package_layers:
            self.violated(f"{contents} had the layers {layers} and has {image.package_layers}")

    @property
    def elapsed(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self._start

    def report(self) -> str:
        """All of it, for people."""
        return "\n".join(
            [
                f"{sum(self.pulls.values())} pulls: {_listed(self.pulls)}",
                f"{sum(self.faults.values())} faults: {_listed(self.faults)}",
                *(f"{what} answered: {_spread(t)}" for what, t in sorted(self._latencies.items())),
                f"{self.bytes_verified / 1e6:.0f} MB of blobs verified",
                f"{len(self._digests)} different images, each with one digest, of "
                f"{len(self._layers)} different contents",
                *(f"VIOLATED: {violation}" for violation in self.violations),
            ]
        )


def _listed(counter: Counter[str]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in counter.most_common())


def _spread(seconds: list[float]) -> str:
    ordered = sorted(seconds)
    shown = (
        f"{percent} % within {ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]:.3f} s"
        for percent in (50, 90, 99)
    )
    return f"{len(ordered)} times, {', '.join(shown)}, all within {ordered[-1]:.3f} s"
