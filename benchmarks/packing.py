"""How fast layers are packed, beside GNU tar with gzip and pigz, on the same tree in one run.

``python benchmarks/packing.py [TREE …]``: each way packs the trees several times, in turns, so
that a noisy machine is equally noisy to all; the best time of each counts. Times are those of
the whole process, except for the packing process, which stays in a daemon: it is warm.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from nixery.packing.workers import packer_environment

ROUNDS = 3
DEFAULT_TREES = ["/usr/lib/python3", "/usr/bin"]


class Result(NamedTuple):
    """One run: seconds of wall time and of processor time, bytes out, peak memory in bytes."""

    wall: float
    cpu: float
    size: int
    peak: int


def run_pipeline(trees: list[str], program: str) -> Result:
    """``tar`` into a program, with the sum of what it takes of the processor."""
    before, start = os.times(), time.perf_counter()
    tar = subprocess.Popen(
        ["tar", "--create", "--sort=name", "--hard-dereference", "--file=-", *trees],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    with tempfile.TemporaryFile() as out:
        subprocess.run(program.split(), stdin=tar.stdout, stdout=out, check=True)
        tar.wait()
        wall, after = time.perf_counter() - start, os.times()
        size = os.fstat(out.fileno()).st_size
    spent = after.children_user + after.children_system
    return Result(wall, spent - before.children_user - before.children_system, size, 0)


class Worker:
    """A packing process that stays from one run to the next."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "nixery.packing.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=packer_environment(),
        )
        self.uncompressed = 0

    def run(self, trees: list[str], compression: str) -> Result:
        """Pack the trees as if they were store paths."""
        pairs = [(f"/nix/store/{number}-tree", tree) for number, tree in enumerate(trees)]
        with tempfile.NamedTemporaryFile() as sink:
            job = {
                "id": 1,
                "sink": sink.name,
                "compression": compression,
                "paths": pairs,
                "entries": [],
            }
            before, start = self._cpu(), time.perf_counter()
            answer = self._ask(job)
            wall = time.perf_counter() - start
        self.uncompressed = answer["uncompressed"]
        return Result(wall, self._cpu() - before, answer["size"], self._peak())

    def _ask(self, job: dict[str, object]) -> dict[str, int]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(job), file=self._process.stdin, flush=True)
        answer: dict[str, int] = json.loads(self._process.stdout.readline())
        if "error" in answer:
            raise SystemExit(f"the tree can't be packed: {answer['error']}")
        return answer

    def _cpu(self) -> float:
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _peak(self) -> int:
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


def measure(trees: list[str]) -> tuple[int, dict[str, list[Result]]]:
    """All ways in turns. The first turn only fills the page cache, and is not counted."""
    programs = ["gzip -6", "pigz -6"] if shutil.which("pigz") else ["gzip -6"]
    workers = {name: Worker() for name in ("fast", "small", "zstd")}
    results: dict[str, list[Result]] = {}
    workers["fast"].run(trees, "fast")
    for _ in range(ROUNDS):
        for program in programs:
            results.setdefault(f"tar, {program}", []).append(run_pipeline(trees, program))
        for name, worker in workers.items():
            results.setdefault(name, []).append(worker.run(trees, name))
    for worker in workers.values():
        worker.close()
    return workers["fast"].uncompressed, results


def report(size: int, results: dict[str, list[Result]]) -> None:
    """A table with one line for each way; the first is what the others are compared with."""
    best = {way: min(runs) for way, runs in results.items()}
    base = next(iter(best.values()))
    print(f"{size / 1e6:.0f} MB on {len(os.sched_getaffinity(0))} processors, best of {ROUNDS}\n")
    print(f"| {'way':14} | MB/s | times | CPU s | size MB | ratio | against gzip | peak MB |")
    print("|---|---|---|---|---|---|---|---|")
    for way, run in best.items():
        peak = f"{run.peak / 1e6:.0f}" if run.peak else "–"
        print(
            f"| {way:14} | {size / run.wall / 1e6:.0f} | {base.wall / run.wall:.1f} "
            f"| {run.cpu:.1f} | {run.size / 1e6:.1f} | {run.size / size:.3f} "
            f"| {run.size / base.size - 1:+.1%} | {peak} |"
        )


if __name__ == "__main__":
    report(*measure(sys.argv[1:] or DEFAULT_TREES))
