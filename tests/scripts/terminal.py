"""A terminal on which scripts are run, and programs for them to find."""

import os
import pty
import select
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import attrs

from tests.waiting import HUNG

SCRIPTS = Path(__file__).parents[2] / "scripts"

BASICS = (
    *("cat", "cut", "df", "dirname", "env", "grep", "head", "id", "mkdir", "mktemp", "rm", "sed"),
    *("setsid", "sh", "sha256sum", "sleep", "stty", "tail", "touch", "tr", "true"),
)
"""What every Debian or Ubuntu system has."""
LATER = 'echo 7 > "$HOME/seconds"'
"""Lets seven seconds pass, for what a script says only of what takes long."""


@attrs.frozen
class Ended:
    """What a command has printed on a terminal.

    :param lines: what stands there in the end, without what lines that move have replaced.
    :param raw: all that was printed.
    :param code: its exit code, negative for a signal.
    """

    lines: list[str]
    raw: str
    code: int


def on_terminal(
    argv: list[str], environ: Mapping[str, str], *then: tuple[str, Callable[[int], object]]
) -> Ended:
    """Run a command as a shell runs one that is typed.

    :param then: what is called with the terminal when something was printed, one after another.
    """
    deadline = time.monotonic() + HUNG
    pid, terminal = pty.fork()
    if pid == 0:
        try:
            os.execvpe(argv[0], argv, environ)
        finally:  # never back into the tests
            os._exit(127)
    printed, todo = b"", list(then)
    while part := _read(terminal):
        printed += part
        if time.monotonic() > deadline:
            os.killpg(pid, signal.SIGKILL)
            raise AssertionError(printed.decode())
        while todo and todo[0][0].encode() in printed:
            todo.pop(0)[1](terminal)
    os.close(terminal)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    # What the terminal itself shows of a key.
    raw = printed.decode().replace("^C", "")
    shown = [line.rstrip("\r").rpartition("\r")[2] for line in raw.split("\n")]
    cleared = (line.replace("\x1b[K", "") for line in shown)
    return Ended([line for line in cleared if line], raw, code)


def ctrl_c(terminal: int) -> None:
    """Press Ctrl-C."""
    os.write(terminal, b"\x03")


def _read(terminal: int) -> bytes:
    ready, _, _ = select.select([terminal], [], [], HUNG)
    assert ready, "nothing was printed, and nothing has ended"
    try:
        return os.read(terminal, 65536)
    except OSError:  # all that had it open have ended
        return b""


def without_terminal(
    argv: list[str], environ: Mapping[str, str]
) -> "subprocess.CompletedProcess[str]":
    """Run a command whose output goes to a file."""
    return subprocess.run(argv, env=environ, capture_output=True, text=True, check=False)


def programs(folder: Path, *real: str, **scripts: str) -> dict[str, str]:
    """An environment in which nothing but some programs is found, and in which no time passes but
    by ``LATER``.

    :param real: names of this machine's programs.
    :param scripts: names, with ``_`` for ``-``, and the lines of shell scripts.
    """
    folder.mkdir(exist_ok=True)
    scripts = {"date": 'cat "$HOME/seconds" 2>/dev/null || echo 0', **scripts}
    for name in {*BASICS, *real} - scripts.keys():
        found = next(p for d in ("/usr/bin", "/bin", "/usr/sbin") if (p := Path(d, name)).exists())
        (folder / name).symlink_to(found)
    for name, lines in scripts.items():
        path = folder / name.replace("_", "-")
        path.write_text(f"#!/bin/sh\n{lines}\n")
        path.chmod(0o755)
    return {"PATH": str(folder), "HOME": str(folder), "TERM": "xterm"}
