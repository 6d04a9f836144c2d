"""How fast layers are packed, beside GNU tar with gzip and pigz, on the same tree in one run.

``python benchmarks/packing.py [TREE …]``: each way packs the trees several times, in turns, so
that a noisy machine is equally noisy to all; the best time of each counts. Times are those of
the whole process, except for the packing process, which stays in a daemon: it is warm.

``python benchmarks/packing.py --beside FOLDER [TREE …]``: the packer of another work tree of this
project, in that folder, beside ours, in turns; the medians are compared.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from nixery.child_python import module_paths
from nixery.packing.workers import ALLOCATION

ROUNDS = 3
ROUNDS_BESIDE = 5
COMPRESSIONS = ["fast", "small", "zstd"]
DEFAULT_TREES = ["/usr/lib/python3", "/usr/bin"]


class Result(NamedTuple):
    """One run: seconds of wall time and of processor time, bytes out, peak memory in bytes, and
    the digest of what was packed."""

    wall: float
    cpu: float
    size: int
    peak: int
    digest: str = ""


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
    """A packing process that stays from one run to the next.

    :param root: the work tree whose packer it is; ours if none is given. Another's is started in
        the environment of the Python that runs this, as packers were that set none of their own.
    """

    def __init__(self, root: str | None = None) -> None:
        environment = {**module_paths(), **ALLOCATION}
        if root is not None:
            paths = os.pathsep.join([root, environment["PYTHONPATH"]])
            environment = {**os.environ, "PYTHONPATH": paths}
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "nixery.packing.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
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
        spent = self._cpu() - before
        return Result(wall, spent, answer["size"], self._peak(), answer["digest"])

    def _ask(self, job: dict[str, object]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(job), file=self._process.stdin, flush=True)
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
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
    workers = {name: Worker() for name in COMPRESSIONS}
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


def compare(trees: list[str], root: str, compressions: list[str]) -> None:
    """Our packer and that of another work tree in turns, and a table of both.

    The first turn only fills the page cache, and is not counted.
    """
    print("| compression | other MB/s | this MB/s | wall | CPU | peak MB | same bytes |")
    print("|---|---|---|---|---|---|---|")
    for compression in compressions:
        workers = Worker(root), Worker()
        turns = [
            [worker.run(trees, compression) for worker in workers] for _ in range(ROUNDS_BESIDE + 1)
        ]
        theirs, ours = (runs[1:] for runs in zip(*turns, strict=True))
        print(_compared(compression, workers[1].uncompressed, theirs, ours))
        for worker in workers:
            worker.close()


def _compared(
    compression: str, size: int, theirs: tuple[Result, ...], ours: tuple[Result, ...]
) -> str:
    """A line of the table; the ratios are of speed."""
    wall = [statistics.median(run.wall for run in runs) for runs in (theirs, ours)]
    cpu = [statistics.median(run.cpu for run in runs) for runs in (theirs, ours)]
    peak = [max(run.peak for run in runs) for runs in (theirs, ours)]
    speeds = " | ".join(f"{size / seconds / 1e6:.0f}" for seconds in wall)
    same = "yes" if len({run.digest for run in theirs + ours}) == 1 else "no"
    return (
        f"| {compression:5} | {speeds} | {wall[0] / wall[1]:.2f} | {cpu[0] / cpu[1]:.2f} "
        f"| {peak[0] / 1e6:.0f}, {peak[1] / 1e6:.0f} | {same} |"
    )


def main() -> None:
    """Measure what the arguments say."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--beside", metavar="FOLDER")
    parser.add_argument("--compression", action="append", choices=COMPRESSIONS)
    parser.add_argument("trees", nargs="*", metavar="TREE", default=DEFAULT_TREES)
    arguments = parser.parse_args()
    if arguments.beside is None:
        report(*measure(arguments.trees))
    else:
        compare(arguments.trees, arguments.beside, arguments.compression or COMPRESSIONS)


if __name__ == "__main__":
    main()
