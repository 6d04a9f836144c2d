"""Runs of the tests that leave something, hang, or are in the background."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[1]

BEGIN = """
import os, psutil, subprocess
from tests.leftovers import RunFolder
folder = RunFolder.make()
print(folder.path, flush=True)
"""
LEAVE = """
subprocess.run(["sh", "-c", "sleep 1000 > /dev/null & exec true"])
while [each.name() for each in psutil.Process().children()] != ["sleep"]:
    pass  # it is a fork of the shell, for a moment
(folder.path / "file").touch()
told = []
folder.remove(told.append)
print(folder.path.exists(), told)
"""

HANGING = """
import threading
import pytest_twisted
from twisted.internet.defer import Deferred

@pytest_twisted.ensureDeferred
async def test_waits_in_the_reactor():
    await Deferred()

def test_waits_elsewhere():
    threading.Event().wait()

@pytest_twisted.ensureDeferred
async def test_goes_on():
    pass
"""
BLOCKING = """
import threading
import pytest_twisted

@pytest_twisted.ensureDeferred
async def test_blocks_the_reactor():
    threading.Event().wait()
"""
INTERRUPTED = """
import subprocess

def test_is_interrupted():
    assert subprocess.run(["sh", "-c", "kill -INT $$"]).returncode == -2
"""
IGNORING = """
import signal
signal.signal(signal.SIGINT, signal.SIG_IGN)
"""
RUN = """
import sys, pytest
sys.exit(pytest.main(sys.argv[1:]))
"""
LEAVING = """
import os, signal, subprocess
from pathlib import Path
import pytest

@pytest.fixture
def lasting():
    yield
    Path("cleaned").touch()

def test_is_interrupted(lasting):
    # In a session of its own, which a terminal's ^C does not reach.
    subprocess.Popen(["sleep", "1000"], stdout=subprocess.DEVNULL, start_new_session=True)
    os.killpg(0, signal.SIGINT)
    signal.pause()
"""
LIMITS = "import tests.waiting; tests.waiting.TEST_LIMIT = tests.waiting.HUNG = 1"
WORKERS = ("-n1", "--dist=loadfile", "--max-worker-restart=0")


def python(script: str, top: Path, *arguments: str) -> "subprocess.Popen[str]":
    """Start a script that has its temporary files in a folder."""
    environ = {**os.environ, "PYTHONPATH": str(TOP), "TMPDIR": str(top)}
    command = [sys.executable, "-c", script, *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environ, stdin=pipe, stdout=pipe, text=True)


def told(run: "subprocess.Popen[str]") -> Path:
    """The folder that a run tells first."""
    assert run.stdout is not None
    return Path(run.stdout.readline().strip())


def test_nothing_is_left(tmp_path: Path) -> None:
    """What a run has started is ended with it, whoever its parent is, and named."""
    with python(BEGIN + LEAVE, tmp_path) as run:
        assert run.stdout is not None
        assert run.stdout.read().splitlines()[1:] == ["False ['left, and ended: sleep 1000']"]
    assert list(tmp_path.iterdir()) == []


def test_runs_that_were_killed(tmp_path: Path) -> None:
    """The next run removes the folder of one that was killed, and not that of one that goes on."""
    with (
        python(BEGIN + "input()", tmp_path) as killed,
        python(BEGIN + "input()", tmp_path) as going_on,
    ):
        folders = [told(killed), told(going_on)]
        killed.kill()
        killed.wait()
        with python(BEGIN, tmp_path):
            pass
        assert [folder.exists() for folder in folders] == [False, True]
        going_on.kill()


def pytest_run(tests: str, top: Path, *options: str) -> str:
    """What pytest prints when it runs tests, of which none may take long."""
    (top / "limits.py").write_text(LIMITS)
    (top / "test_some.py").write_text(tests)
    (top / "tmp").mkdir()
    environ = {**os.environ, "PYTHONPATH": f"{TOP}:{top}", "TMPDIR": str(top / "tmp")}
    plugins = ("-p", "limits", "-p", "tests.conftest")
    command = [sys.executable, "-m", "pytest", "--reactor=asyncio", *plugins, "-q", *options]
    ran = subprocess.run(
        [*command, f"--rootdir={top}", "test_some.py"],
        cwd=top,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert list((top / "tmp").iterdir()) == []
    return ran.stdout


@pytest.mark.parametrize("options", [(), WORKERS], ids=["one process", "workers"])
def test_tests_that_hang(tmp_path: Path, options: Sequence[str]) -> None:
    """A test that hangs fails, in the reactor and outside of it; the next one runs."""
    printed = pytest_run(HANGING, tmp_path, *options)
    assert "2 failed, 1 passed" in printed
    assert "await Deferred()" in printed
    assert "threading.Event().wait()" in printed


def test_a_worker_that_hangs(tmp_path: Path) -> None:
    """A test that can't be cancelled fails in a worker, which ends, and it is said where it was."""
    printed = pytest_run(BLOCKING, tmp_path, *WORKERS)
    assert "1 failed" in printed
    assert "in test_blocks_the_reactor" in printed
    assert printed.count("FAILED test_some.py::test_blocks_the_reactor") == 1


@pytest.mark.parametrize("options", [(), WORKERS], ids=["one process", "workers"])
def test_runs_that_are_interrupted(tmp_path: Path, options: Sequence[str]) -> None:
    """At ^C, tests clean up, and processes that they have left are ended and named."""
    printed = pytest_run(LEAVING, tmp_path, *options)
    assert "left, and ended: sleep 1000" in printed
    assert "KeyboardInterrupt" in printed
    assert (tmp_path / "cleaned").exists()


def test_runs_in_the_background(tmp_path: Path) -> None:
    """What a test starts can be interrupted, though a script may have started the run in the
    background, where that is ignored."""
    (tmp_path / "test_interrupts.py").write_text(INTERRUPTED)
    options = ["--reactor=asyncio", "-p", "tests.conftest", "-q", f"--rootdir={tmp_path}"]
    with python(IGNORING + RUN, tmp_path, *options, str(tmp_path / "test_interrupts.py")) as run:
        assert run.stdout is not None
        assert "1 passed" in run.stdout.read()
