"""``nixery serve``, which is ``twistd nixery`` in the foreground."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nixery.requirements import version
from tests.waiting import HUNG

BIN = Path(sys.executable).parent


@pytest.mark.parametrize("command", [["nixery", "serve"], ["twistd", "nixery"]])
def test_version(command: list[str], tmp_path: Path) -> None:
    """``--version`` prints Nixery's version and not Twisted's, with either command."""
    command = [str(BIN / command[0]), *command[1:], "--version"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=HUNG)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, f"nixery {version()}\n", "")


@pytest.mark.parametrize("command", [["nixery", "serve"], ["twistd", "nixery"]])
@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("--htpaswd=secret", "there is no option --htpaswd; did you mean --htpasswd?"),
        ("--port", "option --port requires argument"),
        ("NIXERY_HTPASSWD=secret", "'NIXERY_HTPASSWD' is not an option"),
    ],
)
def test_mistyped_options(command: list[str], argument: str, said: str, tmp_path: Path) -> None:
    """An error on the command line is one line on standard error, without possible secrets, and
    exit code 1."""
    command = [str(BIN / command[0]), *command[1:], argument]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=HUNG)
    assert (ran.returncode, ran.stdout) == (1, "")
    (line,) = ran.stderr.splitlines()
    assert line.startswith(f"nixery: {said}")
    assert "secret" not in line


@pytest.mark.parametrize("command", [["nixery", "serve"], ["twistd", "nixery"]])
def test_help_for_a_reader_that_leaves(command: list[str], tmp_path: Path) -> None:
    """``--help | head`` ends without a traceback."""
    command = [str(BIN / command[0]), *command[1:], "--help"]
    read, write = os.pipe()
    os.close(read)
    with open(write, "wb") as left:
        ran = subprocess.run(
            command, cwd=tmp_path, stdout=left, stderr=subprocess.PIPE, text=True, timeout=HUNG
        )
    assert (ran.returncode, ran.stderr) == (1, "")


def test_help_names_the_command(tmp_path: Path) -> None:
    """``--help`` shows the usage of the command that was called."""
    for command, said in (
        (["nixery", "serve"], "nixery serve [options]"),
        (["twistd", "nixery"], "twistd"),
    ):
        command = [str(BIN / command[0]), *command[1:], "--help"]
        ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=HUNG)
        assert ran.stdout.startswith(f"Usage: {said}")
        assert "Package set and names:" in ran.stdout
