"""``make run``, until the daemon starts."""

import shutil
import signal
import sys
from pathlib import Path

import pytest

from tests.scripts.terminal import LATER, SCRIPTS, ctrl_c, on_terminal, programs, without_terminal

RUN = str(SCRIPTS / "run")
SOURCES = ("NIXERY_CHANNEL", "NIXERY_PKGS_REPO", "NIXERY_PKGS_PATH", "NIXERY_FLAKE")
SLOW = f"{LATER}; echo fetching; sleep 1000"
STOPPED = "Stopped; nothing is left half-made, and the next start goes on from here."


def test_systems_without_apt_hear_what_serves_instead(tmp_path: Path) -> None:
    """Before anything is installed, one sentence names the settings of other package sets."""
    ran = without_terminal([RUN], programs(tmp_path / "bin"))
    assert (ran.returncode, len(ran.stderr.splitlines())) == (1, 1)
    assert all(name in ran.stderr for name in SOURCES)


@pytest.mark.parametrize("source", SOURCES)
def test_a_set_that_is_named_needs_no_apt(tmp_path: Path, source: str) -> None:
    """What is missing then is named, without what only the set of Debian packages needs."""
    ran = without_terminal([RUN], {**programs(tmp_path / "bin"), source: "x"})
    assert "nix-bin" in ran.stderr
    assert "patchelf" not in ran.stderr


def test_settings_are_read_before_what_takes_long(tmp_path: Path) -> None:
    """Who mistypes one hears of it before the package set is made."""
    shutil.copytree(SCRIPTS, tmp_path / "scripts")
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    for name in ("require", "environment"):  # all is installed
        (tmp_path / "scripts" / name).write_text("#!/bin/sh\n")
    there = dict.fromkeys(("apt_get", "git", "nice", "nix", "nix_build", "prlimit"), "exit 1")
    environ = {**programs(tmp_path / "bin", **there), "NIXERY_HTPASWD": "/etc/users"}
    ran = without_terminal([str(tmp_path / "scripts" / "run")], environ)
    assert (ran.returncode, len(ran.stderr.splitlines())) == (1, 1), ran.stderr
    assert "did you mean NIXERY_HTPASSWD?" in ran.stderr


def test_ctrl_c_is_one_sentence(tmp_path: Path) -> None:
    """It says what is left, and the exit code is that of a program that Ctrl-C has ended."""
    environ = {**programs(tmp_path / "bin", id="echo 0", apt_get=SLOW), "TMPDIR": str(tmp_path)}
    ended = on_terminal([RUN], environ, ("so far: fetching", ctrl_c))
    assert (ended.lines, ended.code) == ([STOPPED], 130)
    assert not list(tmp_path.glob("tmp.*"))


def test_ctrl_c_below_make_is_one_sentence(tmp_path: Path) -> None:
    """make adds no line of its own, and ends by the signal."""
    checkout = tmp_path / "my checkout"
    checkout.mkdir()
    shutil.copytree(SCRIPTS, checkout / "scripts")
    shutil.copy(SCRIPTS.parent / "Makefile", checkout)
    environ = programs(tmp_path / "bin", "make", id="echo 0", apt_get=SLOW)
    ended = on_terminal(
        ["make", "-C", str(checkout), "--no-print-directory", "run"],
        {**environ, "TMPDIR": str(tmp_path)},
        ("so far: fetching", ctrl_c),
    )
    assert (ended.lines, ended.code) == ([STOPPED], -signal.SIGINT)


@pytest.mark.parametrize(("environ", "code"), [({}, 130), ({"MAKELEVEL": "1"}, 0)])
def test_ctrl_c_while_the_daemon_is_loaded(
    tmp_path: Path, environ: dict[str, str], code: int
) -> None:
    """Until the daemon takes the signal itself, it is a sentence, not a traceback."""
    slow = tmp_path / "twisted" / "scripts"
    slow.mkdir(parents=True)
    for package in (slow, slow.parent):
        (package / "__init__.py").touch()
    loading = "import threading\nprint('loading', flush=True)\nthreading.Event().wait()"
    (slow / "twistd.py").write_text(loading)
    ended = on_terminal(
        [sys.executable, str(SCRIPTS / "daemon.py")],
        {"PYTHONPATH": str(tmp_path), **environ},
        ("loading", ctrl_c),
    )
    assert ended.lines == ["loading", "Stopped before the daemon was ready."]
    assert ended.code == code
