"""Child processes: their lines, their ends, and that nobody is left behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import pytest_twisted
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import reactor as _reactor
from twisted.internet.defer import CancelledError
from twisted.internet.task import deferLater

from nixery.nix.process import MAX_LINE, Ended, LineSplitter, Processes

reactor: Any = _reactor
TOP = Path(__file__).resolve().parents[2]


def processes(grace: float = 0.3) -> Processes:
    return Processes(reactor, {"PATH": os.environ["PATH"]}, grace)


async def sh(script: str, lines: list[bytes], limit: float | None = None) -> Ended:
    ended: Ended = await processes().run(["sh", "-c", script], lines.extend, limit)
    return ended


@pytest_twisted.ensureDeferred
async def test_output() -> None:
    """Standard output is kept, standard error comes in lines, and the exit code is told."""
    lines: list[bytes] = []
    ended = await sh("echo out; echo one >&2; printf 'two' >&2; exit 3", lines)
    assert ended == Ended(3, None, False, b"out\n")
    assert lines == [b"one", b"two"]


@pytest_twisted.ensureDeferred
async def test_much_output() -> None:
    """A child that prints ten megabytes to its standard error is read to its end."""
    lines: list[bytes] = []
    ended = await sh("seq 1 1500000 >&2", lines)
    assert ended.code == 0
    assert (len(lines), lines[-1]) == (1_500_000, b"1500000")


@pytest_twisted.ensureDeferred
async def test_signals() -> None:
    """A child that a signal ended has no exit code."""
    ended = await sh("kill -9 $$", [])
    assert (ended.code, ended.signal) == (None, signal.SIGKILL)


@pytest_twisted.ensureDeferred
async def test_time_limit() -> None:
    """A child that takes too long is ended, and that is told."""
    ended = await sh("sleep 1000", [], limit=0.1)
    assert ended.timed_out
    assert ended.signal == signal.SIGTERM


@pytest_twisted.ensureDeferred
async def test_programs_that_are_not_there() -> None:
    """A program that can't be run is an exit code like any other."""
    ended = await processes().run(["no-such-program"], lambda lines: None)
    assert ended.code not in (0, None)


async def _started(pids: list[int]) -> None:
    while not pids:
        await deferLater(reactor, 0.02, lambda: None)


STUBBORN = "trap '' TERM; (trap '' TERM; exec setsid sleep 1000) & echo $! $$ >&2; sleep 1000; wait"


@pytest_twisted.ensureDeferred
async def test_cancelling_ends_stubborn_families() -> None:
    """Cancelling ends a child that ignores TERM, and its child in a session of its own."""
    pids: list[int] = []
    ours = processes()
    running = ours.run(
        ["sh", "-c", STUBBORN], lambda lines: pids.extend(map(int, lines[0].split()))
    )
    await _started(pids)
    family = [psutil.Process(pid) for pid in pids]
    running.cancel()
    with pytest.raises(CancelledError):
        await running
    await ours.stop()
    _, left = psutil.wait_procs(family, timeout=5)
    assert left == []


@pytest_twisted.ensureDeferred
async def test_stop() -> None:
    """``stop`` fires when every child is gone, and they are told how they ended."""
    ours = processes()
    running = [ours.run(["sleep", "1000"], lambda lines: None) for _ in range(3)]
    await ours.stop()
    assert [(await each).signal for each in running] == [signal.SIGTERM] * 3
    await ours.stop()


PARENT = """
import os, sys
from twisted.internet import reactor
from nixery.nix.process import Processes
def tell(lines):
    print(lines[0].decode(), flush=True)
ours = Processes(reactor, {"PATH": os.environ["PATH"]})
ours.run(["sh", "-c", "echo $$ >&2; sleep 1000; :"], tell)
reactor.run()
"""


def test_children_of_the_killed() -> None:
    """When this process is killed with -9, the kernel ends its children."""
    environ = {**os.environ, "PYTHONPATH": str(TOP)}
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], stdout=subprocess.PIPE, env=environ
    ) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    deadline = time.monotonic() + 10
    while child.is_running() and child.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.02)


@given(st.lists(st.sampled_from([b"a", b"\n", b"\r", b"bc\nd", b""])), st.data())
def test_lines_do_not_depend_on_pieces(parts: list[bytes], data: st.DataObject) -> None:
    """However a stream is cut, it has the same lines."""
    stream = b"".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)))))
    lines: list[bytes] = []
    splitter = LineSplitter(lines.extend)
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        splitter.feed(stream[start:end])
    splitter.finish()
    expected = stream.split(b"\n")
    assert lines == (expected if expected[-1] else expected[:-1])


def test_long_lines_are_cut() -> None:
    """Of a line without an end the beginning is kept, and the next one is whole."""
    lines: list[bytes] = []
    splitter = LineSplitter(lines.extend)
    for _ in range(10):
        splitter.feed(b"x" * (MAX_LINE // 4))
    splitter.feed(b"the rest\nnext\n")
    assert [len(line) for line in lines] == [MAX_LINE, 4]
