"""What is left for others while 60 addresses take as much as they may.

    PYTHONPATH=. .venv/bin/python benchmarks/strangers.py

takes eight minutes: how long a known manifest takes alone, then for two minutes among strangers
while docker pulls; the daemon's memory before, at most, and five minutes after they have left.
``NIXERY_*`` variables are the daemon's as always. It ends with code 1 where a goal is missed.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import attrs

from benchmarks.search import Language, write_set
from tests.e2e.clients import Docker, engine
from tests.e2e.daemon import Daemon, running
from tests.e2e.packages import PackageSet, make_package_set
from tests.e2e.strangers import ALLOCATOR, plan_for, proportional, strangers, write_history

SHOWN = ("nixery_connections ", "nixery_unread_bytes ", "nixery_refused_total{")
NAMES = ("git", "curl", "jq", "htop", "python3", "hello")
BUILDS, PACKAGES = 10_000, 60_000
RATIO, MEGABYTES, LEFT = 10.0, 400.0, 1.3
"""Goals: of the manifest's 99th percentile, of memory at most, and of memory afterwards."""

_SET = """
args: import {folder} args // {{
  made-up = {{ recurseForDerivations = true; }} // import ./made-up {{ }};
}}
"""


def wide_set(known: PackageSet, folder: Path) -> PackageSet:
    """The tests' set with many packages more, which can be found but not made."""
    (folder / "made-up").mkdir(parents=True)
    write_set(folder / "made-up", Language(), PACKAGES)
    (folder / "default.nix").write_text(_SET.format(folder=known.folder))
    return PackageSet(folder, {**known.environ, "NIXERY_PKGS_PATH": str(folder)})


def manifests(daemon: Daemon, until: float, most: float) -> list[float]:
    """How long a known manifest takes, each time on a new connection, in milliseconds."""
    times: list[float] = []
    while time.monotonic() < until:
        began = time.perf_counter()
        status = daemon.get("/v2/hello/manifests/latest").status
        times.append(1000 * (time.perf_counter() - began) if status == 200 else float("inf"))
        time.sleep(max(0.0, most - (time.perf_counter() - began)))
    return times


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


def crowded(
    daemon: Daemon, docker: Docker, seconds: float, only: Sequence[str]
) -> tuple[list[float], list[float], float]:
    """Measure among strangers.

    :return: the times of a known manifest and of docker's pulls, and the most memory.
    """
    layers = daemon.pull("python3").json()["layers"]
    layer = max(layers, key=lambda layer: layer["size"])
    plan = plan_for(daemon, NAMES, f"/v2/python3/blobs/{layer['digest']}")
    if only:
        plan = attrs.evolve(plan, paths={kind: plan.paths[kind] for kind in only})
    times: list[float] = []
    pulls: list[float] = []
    most = 0.0
    with strangers(daemon.port, plan) as there:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            times += manifests(daemon, time.monotonic() + 5, 0.01)
            most = max(most, proportional(daemon.process.pid))
            pulls.append(pull(daemon, docker))
            most = max(most, proportional(daemon.process.pid))
        there.leave()
        show("manifest", times)
        show("docker pull", pulls)
        print(f"  answers to the strangers: {dict(sorted(there.counts.items()))}")
    return times, pulls, most


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
        packages = wide_set(known, folder / "set")
        with running(folder / "state", {**packages.environ, **ALLOCATOR}) as daemon:
            daemon.expected = ""  # what is logged is looked at by the test of this
            assert daemon.pull("hello").status == 200
            while daemon.get("/packages?q=x").status == 202:
                time.sleep(0.2)
            print("alone")
            pull(daemon, docker)
            alone = manifests(daemon, time.monotonic() + min(15, arguments.seconds), 0.01)
            show("manifest", alone)
            before = proportional(daemon.process.pid)
            print(f"  memory {before:.0f} MB")
            print(f"among strangers, for {arguments.seconds:.0f} s", flush=True)
            times, pulls, most = crowded(daemon, docker, arguments.seconds, arguments.only)
            print(f"  memory at most {most:.0f} MB", flush=True)
            time.sleep(arguments.after)
            after = proportional(daemon.process.pid)
            metrics = daemon.get("/metrics").body.decode().splitlines()
            print("\n".join(f"  {line}" for line in metrics if line.startswith(SHOWN)))
            print(f"{arguments.after:.0f} s later: memory {after:.0f} MB")
    ratio = p99(times) / p99(alone)
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
