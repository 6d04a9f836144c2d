"""Child processes: their lines, their ends, and that nobody is left behind."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
import pytest_twisted
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import reactor as _reactor
from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IReactorProcess
from twisted.internet.task import deferLater
from zope.interface import implementer

from nixery.model.service_errors import NixUnavailable, ShuttingDown
from nixery.nix.child import Ended
from nixery.nix.lines import MAX_LINE, LastLines, LineSplitter
from nixery.nix.process import Processes, Surroundings
from tests.waiting import lives, until, wait_until_gone

reactor: Any = _reactor
TOP = Path(__file__).resolve().parents[2]


def processes(grace: float = 0.3, **environ: str) -> Processes:
    return Processes(reactor, reactor, {"PATH": os.environ["PATH"], **environ}, grace)


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
async def test_endless_output() -> None:
    """A child that prints to its standard output without end is ended, and says so itself."""
    lines: list[bytes] = []
    ours = Processes(reactor, reactor, {"PATH": os.environ["PATH"]}, output=1_000_000)
    ended = await ours.run(["sh", "-c", "printf x >&2; exec yes"], lines.extend)
    assert ended.code is None
    assert ended.output == b""
    assert lines == [b"x", b"it prints more than 1000000 bytes"]


def test_last_lines() -> None:
    """Of the lines that a child prints without end, the last are kept, without blank ones."""
    errors = LastLines()
    for number in range(10_000):
        errors.take([b"%d" % number, b" ", b"x" * 10_000])
    errors.take([b"fatal: it is gone"])
    assert errors.text(b"; ").endswith("; fatal: it is gone")
    assert len(errors.text()) < 500_000


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
async def test_silence() -> None:
    """A child that says nothing for too long is ended, and one that goes on saying something is
    not."""
    ours = processes()
    talks = "for i in 1 2 3 4 5 6; do sleep 0.5; echo x >&2; done"
    ended = await ours.run(["sh", "-c", talks], silence=2)
    assert (ended.code, ended.timed_out) == (0, False)
    ended = await ours.run(["sh", "-c", "echo x >&2; exec sleep 1000"], silence=0.5)
    assert (ended.timed_out, ended.signal) == (True, signal.SIGTERM)


@pytest_twisted.ensureDeferred
async def test_last_words() -> None:
    """The end of what a child says is kept for those who do not listen, without blank lines."""
    ended = await processes().run(["sh", "-c", "seq 1 10000 >&2; echo >&2; echo last >&2"])
    assert ended.errors.endswith("\n9999\n10000\nlast")
    assert len(ended.errors.split("\n")) <= 200


HUNGRY = "import time; taken = b'x' * 200_000_000; time.sleep({seconds})"


@pytest.mark.program
@pytest_twisted.ensureDeferred
async def test_memory() -> None:
    """A child that takes too much memory is ended with all it has started, and that is told."""
    pids: list[int] = []
    ours = Processes(reactor, reactor, {"PATH": os.environ["PATH"]}, memory=100_000_000)
    script = f'sleep 1000 & echo $! >&2; exec python3 -c "{HUNGRY.format(seconds=1000)}"'
    ended = await ours.run(["sh", "-c", script], lambda lines: pids.extend(map(int, lines)))
    assert (ended.outgrown, ended.signal) == (True, signal.SIGKILL)
    assert not psutil.pid_exists(pids[0])


@pytest.mark.program
@pytest_twisted.ensureDeferred
async def test_memory_of_others() -> None:
    """The memory of processes that a child has started does not count as its own."""
    ours = Processes(reactor, reactor, {"PATH": os.environ["PATH"]}, memory=100_000_000)
    script = f'python3 -c "{HUNGRY.format(seconds=2)}"; exit 7'
    ended = await ours.run(["sh", "-c", script], lambda lines: None)
    assert (ended.outgrown, ended.code) == (False, 7)


@pytest_twisted.ensureDeferred
async def test_programs_that_are_not_there() -> None:
    """A program that can't be run is an exit code like any other."""
    ended = await processes().run(["no-such-program"], lambda lines: None)
    assert ended.code not in (0, None)


async def _started(pids: list[int]) -> None:
    await until(lambda: pids)


async def _gone(family: list[psutil.Process]) -> None:
    """Those who were sent a KILL take a moment to go; those who were not never do."""
    await until(lambda: not any(map(lives, family)))


STUBBORN = "trap '' TERM; (trap '' TERM; exec setsid sleep 1000) & echo $! $$ >&2; sleep 1000; wait"


@pytest.mark.program
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
    await _gone(family)


ORPHAN = "(trap '' TERM; exec setsid sleep 1000) & echo $! >&2; sleep 1000; :"


@pytest.mark.program
@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("pipes", ["", "exec >&- 2>&-; "])
async def test_nobody_outlives_a_child_that_was_stopped(pipes: str) -> None:
    """A stubborn grandchild ends with a child that obeys, whether or not it holds the pipes."""
    pids: list[int] = []
    ours = processes()
    script = ORPHAN.replace("exec", pipes + "exec")
    running = ours.run(["sh", "-c", script], lambda lines: pids.extend(map(int, lines)))
    await _started(pids)
    orphan = psutil.Process(pids[0])
    await deferLater(reactor, 0.1, lambda: None)
    await ours.stop()
    assert (await running).signal == signal.SIGTERM
    await _gone([orphan])


# Each prints its process id once it is on its own.
ON_ITS_OWN = "echo \\$\\$; trap '' TERM HUP; exec >&-; sleep 1000"
BEHIND = [
    "sleep 1000 & echo $! >&2; exit 0",
    # A daemon as the book has it: no parent, a session of its own, no pipe of anybody's.
    f'pid=$( (setsid sh -c "{ON_ITS_OWN} 2>&-" &) ); echo $pid >&2',
    f'pid=$(nohup setsid sh -c "{ON_ITS_OWN}; :" &); echo $pid >&2',
]


@pytest.mark.program
@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("script", BEHIND)
async def test_nobody_outlives_a_child(script: str) -> None:
    """A process that a child leaves behind ends with it, however it has detached itself."""
    pids: list[int] = []
    ended = await processes().run(["sh", "-c", script], lambda lines: pids.extend(map(int, lines)))
    assert ended.code == 0
    assert len(pids) == 1
    assert not psutil.pid_exists(pids[0])


@pytest_twisted.ensureDeferred
async def test_a_daemon_that_is_killed_takes_all_along() -> None:
    """When this process is killed, stubborn descendants end too, after the grace."""
    script = (
        "from twisted.internet import reactor; from nixery.nix.process import Processes\n"
        "say = lambda lines: print(*(line.decode() for line in lines), flush=True)\n"
        "ours = Processes(reactor, reactor, {'PATH': '/usr/bin:/bin'}, 0.3)\n"
        f"ours.run(['sh', '-c', {STUBBORN!r}], say); reactor.run()"
    )
    command = [sys.executable, "-c", script]
    daemon = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=TOP)
    assert daemon.stdout is not None
    family = [psutil.Process(int(pid)) for pid in daemon.stdout.readline().split()]
    daemon.kill()
    daemon.wait()
    daemon.stdout.close()
    await _gone(family)


LITTER = """
cd "$TMPDIR"; pwd; stat -c %a .
mkdir -p locked/x; touch locked/x/y; ln -s "$KEEP" link; chmod 0 locked
i=0; while [ $i -lt 1500 ]; do mkdir d; cd d; i=$((i+1)); done
"""


@pytest_twisted.ensureDeferred
async def test_surroundings(tmp_path: Path) -> None:
    """A child may have an environment of its own, and not see files that others see, while what
    it writes to those that it sees is there afterwards."""
    for name in ("hidden/shown/inside", "hidden/secret", "key"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("seen")
    hidden, key = tmp_path / "hidden", tmp_path / "key"
    mounts = [f"-{hidden}", f"-{key}", "-/nonexistent", f"+{hidden}/shown", f"+{hidden}/none"]
    script = f"cd {hidden} && find . -type f && cat {key} && echo $WHO && echo new > shown/new"
    lines: list[bytes] = []
    ours = processes(WHO="everybody")
    surroundings = Surroundings({"PATH": os.environ["PATH"], "WHO": "one"}, mounts)
    ended = await ours.run(["sh", "-ec", script], lines.extend, surroundings=surroundings)
    assert (ended.code, lines) == (0, [])
    assert ended.output.decode().split() == ["./shown/inside", "one"]
    assert (hidden / "shown" / "new").read_text() == "new\n"
    assert (hidden / "secret").read_text() == key.read_text() == "seen"


@pytest_twisted.ensureDeferred
async def test_temporary_files_go(tmp_path: Path) -> None:
    """A child has a folder of its own for temporary files, through which others may pass, and
    which is removed with all that is in it; where a link in it leads to stays."""
    keep, folder = tmp_path / "keep", tmp_path / "tmp"
    keep.mkdir()
    (keep / "file").touch()
    folder.mkdir()
    ours = processes(TMPDIR=str(folder), KEEP=str(keep))
    ended = await ours.run(["sh", "-ec", LITTER], lambda lines: None)
    assert ended.code == 0
    assert ended.output.decode().split() == [str(folder / "nixery-0"), "711"]
    assert list(folder.iterdir()) == []
    assert (keep / "file").exists()


@pytest_twisted.ensureDeferred
async def test_temporary_files_of_the_killed(tmp_path: Path) -> None:
    """The files of a child whose supervisor was killed are removed when the next one starts, and
    no files that are in use or another's."""
    for name in ("nixery-x", "other"):
        (tmp_path / name).mkdir()
    pids: list[int] = []
    ours = processes(TMPDIR=str(tmp_path))
    script = ["sh", "-c", "touch $TMPDIR/file; echo $PPID >&2; exec sleep 1000"]
    first = ours.run(script, lambda lines: pids.extend(map(int, lines)))
    await _started(pids)
    second = ours.run(script, lambda lines: pids.extend(map(int, lines)))
    while len(pids) < 2:
        await deferLater(reactor, 0.02, lambda: None)
    assert {path.name for path in tmp_path.glob("nixery-?")} == {"nixery-0", "nixery-1", "nixery-x"}
    os.kill(pids[0], signal.SIGKILL)
    await first
    listed = await ours.run(["ls", str(tmp_path)], lambda lines: None)
    assert listed.output.split() == [b"nixery-0", b"nixery-1", b"nixery-x", b"other"]
    assert list((tmp_path / "nixery-1").iterdir()) == [tmp_path / "nixery-1" / "file"]
    assert not (tmp_path / "nixery-0").exists()
    second.cancel()
    await ours.stop()


@pytest_twisted.ensureDeferred
async def test_no_room_for_temporary_files() -> None:
    """Where no such folder can be made, a child runs without."""
    ended = await processes(TMPDIR="/proc").run(["sh", "-c", "echo $TMPDIR"], lambda lines: None)
    assert ended.output == b"/proc\n"


@pytest_twisted.ensureDeferred
async def test_signals_are_as_they_should_be() -> None:
    """A child blocks and ignores no signals."""
    ended = await processes().run(["cat", "/proc/self/status"], lambda lines: None)
    status = dict(line.split(b":\t") for line in ended.output.splitlines())
    for name in (b"SigBlk", b"SigIgn"):
        assert int(status[name], 16) & 0x7FFFFFFF == 0  # behind those are the C library's own


@implementer(IReactorProcess)
class FullReactor:
    """A reactor of a system without room for another process."""

    def spawnProcess(self, *arguments: Any, **named: Any) -> Any:
        raise BlockingIOError(11, "Resource temporarily unavailable")


@pytest_twisted.ensureDeferred
async def test_no_room_for_a_process() -> None:
    """Where no process can be started, that is said, and there is none to wait for."""
    ours = Processes(FullReactor(), reactor, {})
    with pytest.raises(NixUnavailable, match="Resource temporarily unavailable"):
        await ours.run(["git"], lambda lines: None)
    await ours.stop()


@pytest_twisted.ensureDeferred
async def test_nothing_starts_after_the_stop(tmp_path: Path) -> None:
    """Once all are stopped, no child is started any more."""
    ours = processes()
    await ours.stop()
    with pytest.raises(ShuttingDown):
        await ours.run(["touch", str(tmp_path / "x")], lambda lines: None)
    assert not (tmp_path / "x").exists()


@pytest_twisted.ensureDeferred
async def test_the_environment_is_what_was_given() -> None:
    """A child sees the variables that it is given, and one for temporary files."""
    ended = await processes().run(["env"], lambda lines: None)
    assert {line.partition(b"=")[0] for line in ended.output.splitlines()} == {b"PATH", b"TMPDIR"}


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
ours = Processes(reactor, reactor, {"PATH": os.environ["PATH"]})
ours.run(["sh", "-c", "echo $$ >&2; exec sleep 1000"], tell)
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
    wait_until_gone([child])


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


@given(
    st.lists(st.sampled_from([b"a", b"\n", b"bcd", b"efghijklm"]), max_size=12),
    st.integers(1, 9),
    st.integers(1, 6),
)
def test_long_lines_do_not_depend_on_pieces(parts: list[bytes], size: int, limit: int) -> None:
    """However a stream is cut, its lines are the same, and none is longer than the limit."""
    stream = b"".join(parts)
    lines: list[bytes] = []
    splitter = LineSplitter(lines.extend, limit)
    for start in range(0, len(stream), size):
        splitter.feed(stream[start : start + size])
    splitter.finish()
    expected = [line[:limit] for line in stream.split(b"\n")]
    assert lines == (expected if expected[-1] else expected[:-1])


def test_long_lines_are_cut() -> None:
    """Of a line without an end the beginning is kept, and the next one is whole."""
    lines: list[bytes] = []
    splitter = LineSplitter(lines.extend)
    for _ in range(10):
        splitter.feed(b"x" * (MAX_LINE // 4))
    splitter.feed(b"the rest\nnext\n")
    assert [len(line) for line in lines] == [MAX_LINE, 4]
