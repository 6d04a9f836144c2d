"""What is left for others while 60 addresses take as much as they may.

    PYTHONPATH=. .venv/bin/python benchmarks/strangers.py

takes eight minutes: how long a known manifest takes alone, then for two minutes among strangers
while docker pulls; the daemon's memory before, at most, and five minutes after they have left.
``NIXERY_*`` variables are the daemon's as always. It ends with code 1 where a goal is missed.
"""

import argparse
import statistics
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path

import attrs

from benchmarks.search import Language, wide_set
from tests.e2e.clients import Docker, engine
from tests.e2e.daemon import Daemon, running
from tests.e2e.packages import make_package_set
from tests.e2e.strangers import (
    ALLOCATOR,
    Plan,
    plan_for,
    proportional,
    served,
    strangers,
    write_history,
)

SHOWN = ("nixery_connections ", "nixery_unread_bytes ", "nixery_refused_total{")
NAMES = ("git", "curl", "jq", "htop", "python3", "hello")
BUILDS, PACKAGES = 10_000, 60_000
RATIO, MEGABYTES, LEFT = 10.0, 400.0, 1.3
"""Goals: of the manifest's 99th percentile, of memory at most, and of memory afterwards."""
PAUSE = 0.02
"""Seconds between two manifests."""


class Manifests:
    """How long a known manifest takes, each time on a new connection, in milliseconds."""

    def __init__(self, daemon: Daemon) -> None:
        self.times: list[float] = []
        self.answers: Counter[str] = Counter()
        self._daemon = daemon
        self._done = threading.Event()

    @contextmanager
    def measured(self) -> Iterator[None]:
        """Ask again and again, for the length of a block."""
        thread = threading.Thread(target=self._ask)
        thread.start()
        try:
            yield
        finally:
            self._done.set()
            thread.join()

    def _ask(self) -> None:
        while not self._done.is_set():
            began = time.perf_counter()
            try:
                said = str(self._daemon.get("/v2/hello/manifests/latest", timeout=60).status)
            except (OSError, HTTPException) as error:
                said = type(error).__name__
            spent = 1000 * (time.perf_counter() - began)
            self.answers[said] += 1
            self.times.append(spent if said == "200" else float("inf"))
            self._done.wait(PAUSE)


def p99(times: list[float]) -> float:
    return sorted(times)[min(len(times) - 1, int(len(times) * 0.99))]


def show(name: str, times: list[float]) -> None:
    print(f"  {name:12} {len(times)} times: median {statistics.median(times):.1f} ms, ", end="")
    print(f"p99 {p99(times):.1f} ms, most {max(times):.1f} ms", flush=True)


def pull(daemon: Daemon, docker: Docker) -> float:
    """How long docker takes for a known image, in milliseconds; for ever if it fails."""
    image = f"{daemon.host}/hello"
    began = time.perf_counter()
    pulled = docker("pull", image)
    spent = 1000 * (time.perf_counter() - began)
    if pulled.code != 0:
        print(f"  docker pull: {pulled.output.strip()}", flush=True)
        return float("inf")
    docker.ok("rmi", "-f", image)
    return spent


def measure(daemon: Daemon, docker: Docker, seconds: float) -> tuple[Manifests, list[float], float]:
    """Pull for a while.

    :return: the times of a known manifest and of docker's pulls, and the most memory.
    """
    manifests, pulls, most = Manifests(daemon), [], 0.0
    end = time.monotonic() + seconds
    with manifests.measured():
        while time.monotonic() < end:
            pulls.append(pull(daemon, docker))
            most = max(most, proportional(daemon.process.pid))
            time.sleep(0.5)
    show("manifest", manifests.times)
    print(f"  manifest's answers: {dict(manifests.answers)}")
    show("docker pull", pulls)
    return manifests, pulls, most


def plan(daemon: Daemon, only: Sequence[str]) -> Plan:
    """What the strangers do: all, or some kinds of requests alone."""
    layers = daemon.pull("python3").json()["layers"]
    layer = max(layers, key=lambda layer: layer["size"])
    whole = plan_for(daemon, NAMES, f"/v2/python3/blobs/{layer['digest']}")
    return attrs.evolve(whole, paths={kind: whole.paths[kind] for kind in only or whole.paths})


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=120, help="among strangers")
    parser.add_argument("--only", nargs="*", help="kinds of requests; all if none is named")
    parser.add_argument("--after", type=float, default=300, help="seconds until memory is compared")
    arguments = parser.parse_args()
    known = make_package_set()
    with tempfile.TemporaryDirectory() as name, engine() as docker:
        folder = Path(name)
        write_history(folder / "state", BUILDS)
        environ = {**ALLOCATOR, **served(wide_set(folder / "set", Language(), PACKAGES), folder)}
        with running(folder / "state", {**known.environ, **environ}) as daemon:
            daemon.expected = ""  # what is logged is looked at by the test of this
            assert daemon.pull("hello").status == 200
            while daemon.get("/packages?q=x").status == 202:
                time.sleep(0.2)
            there = plan(daemon, arguments.only)
            print("alone", flush=True)
            alone, _, _ = measure(daemon, docker, min(20, arguments.seconds))
            before = proportional(daemon.process.pid)
            print(f"  memory {before:.0f} MB")
            print(f"among strangers, for {arguments.seconds:.0f} s", flush=True)
            with strangers(daemon.port, there) as crowd:
                crowded, pulls, most = measure(daemon, docker, arguments.seconds)
                crowd.leave()
                print(f"  answers to the strangers: {dict(sorted(crowd.counts.items()))}")
            print(f"  memory at most {most:.0f} MB", flush=True)
            time.sleep(arguments.after)
            after = proportional(daemon.process.pid)
            metrics = daemon.get("/metrics").body.decode().splitlines()
            print("\n".join(f"  {line}" for line in metrics if line.startswith(SHOWN)))
            print(f"{arguments.after:.0f} s later: memory {after:.0f} MB")
    ratio = p99(crowded.times) / p99(alone.times)
    failed = sum(spent == float("inf") for spent in pulls)
    goals = (
        (f"docker's pulls that failed: {failed} of {len(pulls)}", not failed, "0"),
        (f"manifest's p99, to that alone: {ratio:.1f}", ratio <= RATIO, f"{RATIO:g}"),
        (f"memory at most: {most:.0f} MB", most <= MEGABYTES, f"{MEGABYTES:g} MB"),
        (f"memory after, to before: {after / before:.2f}", after <= LEFT * before, f"{LEFT:g}"),
    )
    for text, reached, goal in goals:
        print(f"{'reached' if reached else 'MISSED '}  {text} (goal: {goal})")
    return 0 if all(reached for _, reached, _ in goals) else 1


if __name__ == "__main__":
    raise SystemExit(main())
