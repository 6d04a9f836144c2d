"""How the command ends: exit codes, sentences, and what is imported for it."""

import os
import subprocess
import sys
from io import BytesIO, TextIOWrapper
from pathlib import Path

import click
import pytest
from click.shell_completion import BashComplete

from nixery.cli.main import NAMES, main, nixery
from nixery.requirements import version
from tests.cli.fake_api import FakeApi, Run, image, refusal
from tests.waiting import HUNG

NIXERY = str(Path(sys.executable).with_name("nixery"))


def test_version(run: Run) -> None:
    """``--version`` prints the version."""
    ran = run("--version")
    assert (ran.code, ran.out, ran.err) == (0, f"nixery {version()}\n", "")


def test_help_lists_all_commands(run: Run) -> None:
    """``--help`` names each command with what it does, in lines that are not cut."""
    ran = run("--help")
    assert ran.code == 0
    for name in NAMES:
        (line,) = [line for line in ran.out.splitlines() if line.startswith(f"  {name} ")]
        assert line.endswith(".")
        assert not line.endswith("...")


def test_no_command(run: Run) -> None:
    """Without a command, the help is an error's."""
    ran = run()
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("Usage: nixery")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["lst"], "there is no command 'lst'; did you mean list?"),
        (["--port", "80"], "--port is an option of 'nixery serve'"),
        (["--check"], "--check is an option of 'nixery serve'"),
        (["list", "--jsn"], "No such option '--jsn'"),
        (["show"], "Missing argument 'NAME'"),
        (["show", "GIT"], "the image name 'GIT' is not valid"),
        (["show", "git:-x"], "the tag '-x' is not valid"),
        (["show", "git@sha256:12"], "'sha256:12' is not a digest"),
        (["search", "-n", "0", "x"], "Invalid value for '-n'"),
    ],
)
def test_mistyped(run: Run, arguments: list[str], said: str) -> None:
    """What is wrong on the command line is said in one line, with the exit code 2."""
    ran = run(*arguments)
    assert (ran.code, ran.out) == (2, "")
    (line,) = ran.err.splitlines()
    assert line.startswith("nixery: ")
    assert said in line
    assert "--help' says more" in line


@pytest.mark.parametrize(
    ("status", "code"), [(404, 3), (401, 4), (403, 4), (429, 4), (503, 4), (400, 1), (500, 1)]
)
def test_refusals(run: Run, api: FakeApi, status: int, code: int) -> None:
    """What the daemon refuses is told in its own words, with the exit code of its kind."""
    api.answers["GET /api/images/git:latest"] = status, refusal("so it is")
    ran = run("show", "git")
    assert (ran.code, ran.out) == (code, "")
    assert ran.err.startswith("nixery: so it is")


def test_no_daemon(run: Run) -> None:
    """Without a daemon, and nothing that it left, a command says where it looked."""
    ran = run("show", "git")
    assert ran.code == 4
    assert "no daemon runs with the state folder" in ran.err


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "unix:/nowhere/socket"])
def test_a_daemon_that_is_gone(run: Run, url: str) -> None:
    """A daemon that does not answer is named."""
    ran = run("show", "git", "--url", url)
    assert ran.code == 4
    assert "can't be reached" in ran.err


@pytest.mark.parametrize("url", ["localhost:8080", "ftp://x", "http://"])
def test_no_url(run: Run, url: str) -> None:
    """What is no URL of a daemon is a mistake on the command line."""
    ran = run("list", "--url", url)
    assert ran.code == 2
    assert "is not the URL of a daemon" in ran.err


def test_something_else(run: Run, api: FakeApi) -> None:
    """A server that is no Nixery is told from one."""
    api.answers["GET /api/images?n=10000&after="] = 200, b"<html>"
    ran = run("list")
    assert ran.code == 4
    assert "does not answer with JSON" in ran.err


def test_an_interrupt_is_quiet(run: Run, api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C ends a command without a traceback."""

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("nixery.cli.client.Client.get", interrupt)
    ran = run("list")
    assert (ran.code, ran.out, ran.err.strip()) == (130, "", "")


def test_a_reader_that_leaves(api: FakeApi, state: Path) -> None:
    """``nixery list | head -1`` ends without a traceback."""
    api.answers["GET /api/images?n=10000&after="] = 200, {"images": []}
    read, write = os.pipe()
    os.close(read)
    with open(write, "wb") as left:
        ran = subprocess.run(
            [NIXERY, "list"], stdout=left, stderr=subprocess.PIPE, text=True, timeout=HUNG
        )
    assert (ran.returncode, ran.stderr) == (1, "")


def test_little_is_imported() -> None:
    """Neither Twisted nor what commands do not share is imported to choose one, and none of it by
    the daemon."""
    program = "import sys; from nixery.cli.main import NAMES, nixery; "
    program += "[nixery.get_command(None, name) for name in NAMES]; print(*sys.modules)"
    loaded = subprocess.check_output([sys.executable, "-c", program], text=True).split()
    assert "nixery.cli.verify" in loaded
    assert {name.split(".")[0] for name in loaded} & {
        "twisted",
        "rich",
        "requests",
        "klein",
    } == set()
    program = "import sys, nixery.plugin; print(*sys.modules)"
    loaded = subprocess.check_output([sys.executable, "-c", program], text=True).split()
    assert "nixery.tap" in loaded
    assert not [name for name in loaded if name.startswith(("nixery.cli", "click", "rich"))]


def test_completion() -> None:
    """Shells complete commands and options."""
    complete = BashComplete(nixery, {}, "nixery", "_NIXERY_COMPLETE")
    words = [item.value for item in complete.get_completions([], "pu")]
    assert words == ["pull-ready"]
    assert "--json" in [item.value for item in complete.get_completions(["list"], "--")]


def test_every_command_has_help(run: Run) -> None:
    """Each command says what it is for; those of the daemon's options do so by themselves."""
    for name in NAMES:
        command = nixery.get_command(click.Context(nixery), name)
        assert command is not None
        assert (command.help or "").strip()


def test_letters_that_a_terminal_has_not(monkeypatch: pytest.MonkeyPatch, api: FakeApi) -> None:
    """In an encoding that lacks some letters, these are replaced, and the rest is printed."""
    api.answers["GET /api/images?n=10000&after="] = 200, {"images": [image("git", "été-漢")]}
    printed = BytesIO()
    monkeypatch.setattr(sys, "stdout", TextIOWrapper(printed, "latin-1"))
    monkeypatch.setattr(sys, "argv", ["nixery", "list"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert "été-?" in printed.getvalue().decode("latin-1")
