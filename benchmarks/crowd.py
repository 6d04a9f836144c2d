"""How long known images take while others take up room: connections, bandwidth, builds.

Run by ``make bench``. The crowd is on this machine and has its own process; what it costs the
processors is part of what is measured. Absolute numbers depend on the machine; the ratios, taken
in one run, are what to compare.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import psutil

from tests.e2e.clients import Docker, engine
from tests.e2e.crowd import crowd
from tests.e2e.daemon import Daemon, running
from tests.e2e.packages import PackageSet, make_package_set

HALF_OPEN, READERS = 500, 50
MANIFESTS, PULLS = 1000, 40
HUGE = "hugefile"
QUEUE = [f"/v2/slow/{a}/{b}/manifests/latest" for a in ("git", "curl") for b in ("jq", "htop")]
QUEUE += [f"/v2/{a}/slow/manifests/latest" for a in ("git", "curl", "jq", "python3", "hello")]
SETTINGS = {"NIXERY_MAX_BUILDS": "2", "NIXERY_MAX_QUEUE": "4"}


def milliseconds(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return 1000 * (time.perf_counter() - began)


def show(name: str, times: list[float]) -> None:
    p99 = statistics.quantiles(times, n=100, method="inclusive")[98]
    print(f"    {name:22} median {statistics.median(times):7.2f} ms   p99 {p99:7.2f} ms", end="")
    print(f"   most {max(times):7.2f} ms")


def measure(daemon: Daemon, docker: Docker) -> None:
    """Pull known images, one after another."""
    image = f"{daemon.host}/hello"

    def manifest() -> None:
        assert daemon.pull("hello").status == 200

    pulls = []
    for _ in range(PULLS):
        pulls.append(milliseconds(lambda: docker.ok("pull", image)))
        docker.ok("rmi", "-f", image)
    show(f"{MANIFESTS} manifests", [milliseconds(manifest) for _ in range(MANIFESTS)])
    show(f"{PULLS} docker pulls", pulls)


def state_of(daemon: Daemon) -> str:
    process = psutil.Process(daemon.process.pid)
    connections = [c for c in process.net_connections("tcp") if c.status == "ESTABLISHED"]
    memory = process.memory_info().rss / 1e6
    return f"{len(connections)} connections, {memory:.0f} MB resident"


def refusal(daemon: Daemon) -> str:
    """What becomes of someone who asks for one more new image."""
    answer = daemon.get("/v2/htop/slow/manifests/latest")
    return f"{answer.status} {answer.reason}"


def scenario(packages: PackageSet, docker: Docker, folder: Path, name: str, room: int) -> None:
    """Measure alone and in a crowd, on one daemon."""
    environ = {**packages.environ, **SETTINGS, "NIXERY_CLIENT_CONNECTIONS": str(room)}
    with running(folder / name.replace(" ", "-"), environ) as daemon:
        daemon.pull("hello")
        layers = daemon.pull(HUGE).json()["layers"]
        digest = max(layers, key=lambda layer: layer["size"])["digest"]
        blob = f"/v2/{HUGE}/blobs/{digest}"
        print(name)
        for words, crowded in (
            ("alone", nullcontext()),
            ("in the crowd", crowd(daemon.port, HALF_OPEN, blob, READERS, QUEUE)),
            ("alone again", nullcontext()),
        ):
            with crowded:
                print(f"  {words}: {state_of(daemon)}")
                measure(daemon, docker)
                if words == "in the crowd":
                    print(f"    then: {state_of(daemon)}")
                    print(f"    a new image: {refusal(daemon)}")


def main() -> None:
    made = make_package_set()
    print(f"{HALF_OPEN} half-open connections, {READERS} slow readers of a large layer,")
    print(f"{len(QUEUE)} new images asked for, of which 2 are made at once and 4 may wait;")
    print("all from one address")
    with tempfile.TemporaryDirectory() as name, engine() as docker:
        for words, room in (("all connections stay", 2000), ("256 connections of a client", 256)):
            scenario(made.with_slow(Path(name) / str(room)), docker, Path(name), words, room)


if __name__ == "__main__":
    main()
