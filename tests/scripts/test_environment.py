"""The virtual environment has what pyproject.toml asks for now."""

import shutil
from pathlib import Path

import attrs
import pytest

from tests.scripts.terminal import SCRIPTS, programs, without_terminal

# Says that it is some version, makes environments, and notes what pip is told.
PYTHON = """
case "$*" in
    *3,\\ 11*) [ "${OLD:-}" = '' ] ;;
    *base_prefix*) echo "version ${VERSION:-1}" ;;
    -V) echo "Python 3.9.2" ;;
    "-m venv .venv") mkdir .venv .venv/bin; cp "$0" .venv/bin/python; echo venv >> log ;;
    "-m pip "*) echo pip >> log; exit "${FAIL:-0}" ;;
esac
"""


@attrs.frozen
class Checkout:
    folder: Path
    environ: dict[str, str]

    def __call__(self, *arguments: str, **environ: str) -> tuple[int, str]:
        """Run the script: its exit code, and what it says."""
        script = str(self.folder / "scripts" / "environment")
        ran = without_terminal([script, *arguments], {**self.environ, **environ})
        return ran.returncode, ran.stderr

    def done(self) -> list[str]:
        """What was made since this was asked."""
        log = self.folder / "log"
        lines = log.read_text().splitlines() if log.exists() else []
        log.unlink(missing_ok=True)
        return lines


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    """One at a path with a space."""
    folder = tmp_path / "my checkout"
    (folder / "scripts").mkdir(parents=True)
    for name in ("environment", "step"):
        shutil.copy(SCRIPTS / name, folder / "scripts")
    for name in ("setup.py", "pyproject.toml"):
        (folder / name).touch()
    environ = programs(tmp_path / "bin", "cp", python3=PYTHON)
    return Checkout(folder, {**environ, "TMPDIR": str(tmp_path)})


def test_it_is_made_once(checkout: Checkout) -> None:
    """The second time there is nothing to do; tests want more than the daemon."""
    assert checkout() == (0, "")
    assert checkout.done() == ["venv", "pip"]
    assert checkout() == (0, "")
    assert checkout.done() == []
    assert checkout("test") == (0, "")
    assert checkout.done() == ["pip"]
    assert (checkout("test"), checkout()) == ((0, ""), (0, ""))
    assert checkout.done() == []


@pytest.mark.parametrize("name", ["setup.py", "pyproject.toml"])
def test_it_is_brought_up_to_what_is_asked(checkout: Checkout, name: str) -> None:
    """Other requirements are installed, whatever the times of files are."""
    checkout()
    checkout("test")
    checkout.done()
    (checkout.folder / name).write_text("something else")
    assert (checkout(), checkout.done()) == ((0, ""), ["pip"])
    assert (checkout("test"), checkout.done()) == ((0, ""), ["pip"])


def test_another_python_makes_another(checkout: Checkout) -> None:
    """An environment of a Python that was replaced since is of no use."""
    checkout()
    checkout.done()
    assert (checkout(VERSION="2"), checkout.done()) == ((0, ""), ["venv", "pip"])


def test_another_place_makes_another(checkout: Checkout, tmp_path: Path) -> None:
    """A checkout that was moved has programs that name the old place."""
    checkout()
    checkout.done()
    moved = Checkout(checkout.folder.rename(tmp_path / "moved"), checkout.environ)
    assert (moved(), moved.done()) == ((0, ""), ["venv", "pip"])


def test_one_of_which_nothing_is_known_is_made_anew(checkout: Checkout) -> None:
    """Whoever made it did not say with what."""
    (checkout.folder / ".venv" / "bin").mkdir(parents=True)
    assert (checkout(), checkout.done()) == ((0, ""), ["venv", "pip"])


def test_half_of_one_is_not_kept(checkout: Checkout) -> None:
    """Where installing failed, or was stopped, all is made anew."""
    code, said = checkout(FAIL="1")
    assert code == 1
    assert "installing Python packages (about a minute): failed" in said
    checkout.done()
    assert (checkout(), checkout.done()) == ((0, ""), ["venv", "pip"])


def test_an_old_python_is_refused(checkout: Checkout) -> None:
    """Before anything is made, one sentence says which Python is needed and how to name one."""
    code, said = checkout(OLD="yes")
    assert (code, said) == checkout("--check", OLD="yes")
    assert (code, len(said.splitlines()), checkout.done()) == (1, 1, [])
    assert "3.11 or newer" in said
    assert "Python 3.9.2" in said
    assert "PYTHON=" in said
