"""One step of what a person started: what is shown of it, and how it ends."""

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.scripts.terminal import LATER, SCRIPTS, ctrl_c, on_terminal, programs, without_terminal
from tests.waiting import wait_until

STEP = str(SCRIPTS / "step")


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {**programs(tmp_path / "bin"), "TMPDIR": str(tmp_path)}


def shell(script: str, *options: str) -> list[str]:
    return [STEP, *options, "cooking tea", "sh", "-c", script]


def waiting(folder: Path) -> str:
    """A command that takes long, and ends when it is told to."""
    return f"{LATER}; echo water is hot; until [ -e {folder}/go ]; do sleep 0.1; done"


def go(folder: Path) -> Callable[[int], object]:
    return lambda _: (folder / "go").touch()


def test_what_is_quick_says_nothing(environ: dict[str, str]) -> None:
    """Of a step that takes no time nothing is seen, but what it has to note."""
    assert on_terminal(shell("echo busy"), environ).lines == []
    assert on_terminal(shell("echo busy; echo note: no sugar; echo done"), environ).lines == [
        "no sugar"
    ]


def test_one_line_moves(tmp_path: Path, environ: dict[str, str]) -> None:
    """A terminal shows what is happening, for how long, and in the end one line of it."""
    moving = "cooking tea, 7 s so far: water is hot"
    ended = on_terminal(shell(waiting(tmp_path)), environ, (moving, go(tmp_path)))
    assert (ended.lines, ended.code) == (["cooking tea: done in 7 s"], 0)


def test_long_titles_leave_room(tmp_path: Path, environ: dict[str, str]) -> None:
    """A terminal of eighty columns shows what is happening, in one line, whatever the title."""
    argv = [STEP, "x" * 200, "sh", "-c", waiting(tmp_path)]
    ended = on_terminal(argv, environ, ("x..., 7 s so far: water is hot", go(tmp_path)))
    moving = ended.raw.partition("x: done")[0].split("\r")
    assert max(map(len, moving[:-1])) <= 80 + len("\x1b[K")


def test_without_a_terminal_lines_stay(tmp_path: Path, environ: dict[str, str]) -> None:
    """A log gets the title, once, and no control characters."""
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(shell(waiting(tmp_path)), env=environ, stdout=log, stderr=log)
    while not (tmp_path / "log").read_text():
        assert process.poll() is None
        time.sleep(0.05)
    go(tmp_path)(0)
    assert process.wait() == 0
    assert (tmp_path / "log").read_text() == "cooking tea\n"


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        (
            "E: Temporary failure resolving 'packages.example'",
            "no server can be reached (Temporary",
        ),
        ("[Errno -3] Temporary failure in name resolution", "no server can be reached (Temporary"),
        ("OSError: [Errno 28] No space left on device", "the disk is full"),
        ("E: You don't have enough free space in /var/cache/apt/archives/.", "the disk is full"),
        ("cannot make tea: there is no cup", "cannot make tea: there is no cup"),
    ],
)
def test_failures_that_are_known(environ: dict[str, str], said: str, sentence: str) -> None:
    """What a person can do something about is one sentence."""
    ran = without_terminal([STEP, "tea", "sh", "-c", 'echo "$0"; exit 9', said], environ)
    assert len(ran.stderr.splitlines()) == 1
    assert sentence in ran.stderr
    assert ran.returncode == 1


@pytest.mark.parametrize(
    ("kilobytes", "sentence"), [(150_000, "the disk is full"), (300_000, "failed, see above")]
)
def test_lists_that_there_is_no_room_for(tmp_path: Path, kilobytes: int, sentence: str) -> None:
    """Where there is little room, a list that is "not found" is one that apt could not unpack."""
    environ = programs(tmp_path / "bin", df=f"echo Avail; echo {kilobytes}")
    said = "E: Failed to fetch http://x/y/Packages  404  Not Found [IP: 192.0.2.1 80]"
    ran = without_terminal(
        [STEP, "tea", "sh", "-c", 'echo "$0"; exit 9', said], {**environ, "TMPDIR": str(tmp_path)}
    )
    assert sentence in ran.stderr.splitlines()[-1]


def test_other_failures_are_quoted(environ: dict[str, str]) -> None:
    """The end of what the command printed is there, and which step it was."""
    ran = without_terminal(shell("echo odd; exit 3"), environ)
    assert ran.stderr.splitlines() == ["odd", "cooking tea: failed, see above"]


def test_ctrl_c_ends_all_that_was_started(tmp_path: Path, environ: dict[str, str]) -> None:
    """What the command has started is gone too, and no file of the step is left."""
    started = f"{LATER}; sleep 1000 & echo $! > {tmp_path}/child; echo begun; wait"
    ended = on_terminal(shell(started), environ, ("begun", ctrl_c))
    assert (ended.code, ended.lines) == (130, [])
    child = int((tmp_path / "child").read_text())
    wait_until(lambda: not is_running(child))
    assert not list(tmp_path.glob("tmp.*"))


def test_what_must_not_be_cut_is_ended_first(tmp_path: Path, environ: dict[str, str]) -> None:
    """Such a step is waited for, and says so; the exit code tells of Ctrl-C all the same."""
    ended = on_terminal(
        shell(f"{waiting(tmp_path)}; touch {tmp_path}/whole", "--to-the-end"),
        environ,
        ("water is hot", ctrl_c),
        ("stopping when this has ended: cooking tea", go(tmp_path)),
    )
    assert (tmp_path / "whole").exists()
    assert (ended.code, ended.lines) == (130, [])


def is_running(pid: int) -> bool:
    """Whether a process is there that is no zombie: whoever adopted it may let it be one."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False
