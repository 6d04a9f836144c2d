"""How fast a first pull is, and how much memory the daemon takes meanwhile.

Run by ``make bench``. It uses the tests' package set and daemon. Absolute numbers depend on the
machine; the ratios, taken in one run, are what to compare.
"""

import re
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import psutil

from nixery.model.manifest import INDEX_TYPE, MANIFEST_TYPE
from tests.e2e.daemon import Daemon, running
from tests.e2e.packages import PackageSet, make_package_set

NEW_IMAGE = "shell/git/python3/curl/jq"
HUGE = "hugefile"
CLIENTS = 8
INDEX_ROUNDS = 5
MEMORY_GOAL = 150  # MB, of the daemon and its packers
EVENT = re.compile(r" \+(\d+\.\d+) s: (built|grouped|packed)")


def milliseconds(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return 1000 * (time.perf_counter() - began)


def new_image(package_set: PackageSet, folder: Path) -> None:
    """A new image of built packages: where its time goes, and how others are served meanwhile."""
    with running(folder / "warm", package_set.environ) as daemon:
        assert daemon.pull(NEW_IMAGE).status == 200
    with running(folder / "new", package_set.environ) as daemon:
        daemon.pull("hello")  # the packers are running
        before = _cpu_seconds(daemon)
        with ThreadPoolExecutor(1) as client:
            pull = client.submit(milliseconds, lambda: daemon.pull(NEW_IMAGE))
            meanwhile = []
            while not pull.done():
                meanwhile.append(milliseconds(lambda: daemon.get("/v2/")))
            total = pull.result()
        cpu = _cpu_seconds(daemon) - before
        steps = _steps(daemon.log, NEW_IMAGE)
    evaluation, packing = steps["built"], steps["packed"] - steps["grouped"]
    grouping = 1000 * (steps["grouped"] - steps["built"])
    rest = total - 1000 * (evaluation + packing)
    p99 = statistics.quantiles(meanwhile, n=100)[98]
    print(f"new image of built packages: {NEW_IMAGE}")
    print(f"  total {total:.0f} ms, {1000 * cpu:.0f} ms of CPU in the daemon and its packers:")
    print(f"  Nix {1000 * evaluation:.0f}, root and layers {grouping:.0f},", end=" ")
    print(f"packing {1000 * packing:.0f}")
    print(f"  all but Nix and packing {rest:.0f} (goal: 200); of the total {rest / total:.2f}")
    print(f"  meanwhile, {len(meanwhile)} GET /v2/: p99 {p99:.1f} ms (goal: 50)")


def index(package_set: PackageSet, folder: Path) -> None:
    """An index of two platforms beside an image for one, in turn; the packages are built."""
    environ = {**package_set.environ, "NIXERY_PLATFORMS": "linux/amd64,linux/arm64"}
    kinds = {"one": MANIFEST_TYPE, "index": f"{MANIFEST_TYPE}, {INDEX_TYPE}"}
    spent: dict[str, list[tuple[float, float]]] = {kind: [] for kind in kinds}
    for number in range(INDEX_ROUNDS + 1):
        for kind, accept in kinds.items():
            with running(folder / f"{kind}{number}", environ) as daemon:
                daemon.pull("hello", accept=accept)  # the packers are running
                before = _cpu_with_nix(daemon)
                wall = milliseconds(partial(daemon.pull, NEW_IMAGE, accept=accept))
                spent[kind].append((wall, 1000 * (_cpu_with_nix(daemon) - before)))
    print(f"index of two platforms: {NEW_IMAGE}, of built packages, beside an image for one")
    for place, what in enumerate(("wall", "CPU, Nix's too,")):
        # The first round has built the packages.
        one, both = (statistics.median(t[place] for t in spent[k][1:]) for k in kinds)
        print(f"  {what} {one:.0f} and {both:.0f} ms: {both / one:.2f} times (goal: 2.2)")


def _cpu_seconds(daemon: Daemon) -> float:
    """What the daemon and its packers have used so far; Nix's children are gone by then."""
    family = [psutil.Process(daemon.process.pid), *daemon.children()]
    times = [process.cpu_times() for process in family]
    return sum(time.user + time.system for time in times)


def _cpu_with_nix(daemon: Daemon) -> float:
    """The same, with all processes of the daemon that have ended."""
    ended = psutil.Process(daemon.process.pid).cpu_times()
    return _cpu_seconds(daemon) + ended.children_user + ended.children_system


def _steps(log: str, name: str) -> dict[str, float]:
    """Step → seconds from the build's beginning to its end."""
    first = name.split("/")[-1]
    lines = (line for line in log.splitlines() if first in line)
    return {match[2]: float(match[1]) for line in lines for match in EVENT.finditer(line)}


@contextmanager
def memory_of(daemon: Daemon) -> Iterator[list[float]]:
    """Collect the memory of the daemon and its packers, in MB, while the block runs."""
    samples: list[float] = []
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.1):
            samples.append(_resident(daemon) / 1e6)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield samples
    finally:
        done.set()
        thread.join()


def _resident(daemon: Daemon) -> float:
    """Proportional memory: pages that processes share count once."""
    family = [psutil.Process(daemon.process.pid), *daemon.children()]
    total = 0.0
    for process in family:
        try:
            if process.pid == daemon.process.pid or "nixery.packing" in " ".join(process.cmdline()):
                total += process.memory_full_info().pss
        except psutil.Error:
            continue
    return total


def memory(package_set: PackageSet, folder: Path) -> None:
    """A 500 MB layer is made, and eight clients load it."""
    with running(folder / "memory", package_set.environ) as daemon:
        idle = _resident(daemon) / 1e6
        with memory_of(daemon) as samples:
            answer = daemon.pull(HUGE)
            layers = answer.json()["layers"]
            largest = max(layers, key=lambda layer: layer["size"])
            url = f"http://{daemon.host}/v2/{HUGE}/blobs/{largest['digest']}"

            def load(_: int) -> None:
                subprocess.run(["curl", "-sf", "-o", "/dev/null", url], check=True)

            with ThreadPoolExecutor(CLIENTS) as clients:
                list(clients.map(load, range(CLIENTS)))
        peak = max(samples)
    print(f"memory: a layer of {largest['size'] / 1e6:.0f} MB made, {CLIENTS} clients load it")
    print(f"  idle {idle:.0f} MB, peak {peak:.0f} MB; peak / goal {peak / MEMORY_GOAL:.2f}")


def main() -> None:
    package_set = make_package_set()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        new_image(package_set, folder)
        index(package_set, folder)
        memory(package_set, folder)


if __name__ == "__main__":
    main()
