"""Programs that are missing are installed, all at once, or named with what to type."""

from pathlib import Path

import pytest

from tests.scripts.terminal import LATER, SCRIPTS, ctrl_c, on_terminal, programs, without_terminal

REQUIRE = str(SCRIPTS / "require")
WANTED = ["nix-build=nix-bin", "nix-store=nix-bin", "cat=coreutils", "patchelf=patchelf"]
ROOT, USER = "echo 0", "echo 1000"
APT = 'echo "$@" >> "$HOME/apt"; echo working'
NO_SUDO = "exit 1"
SUDO = 'echo sudo >> "$HOME/apt"; shift; exec "$@"'


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Logs of steps go where they can be seen."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))


def calls(environ: dict[str, str]) -> list[str]:
    """What apt, and sudo, were called with."""
    log = Path(environ["HOME"], "apt")
    return log.read_text().splitlines() if log.exists() else []


def test_what_is_there_is_not_installed(tmp_path: Path) -> None:
    """Nobody is asked for anything where nothing is missing."""
    environ = programs(tmp_path / "bin", id=USER, apt_get=APT)
    ran = without_terminal([REQUIRE, "cat=coreutils", "grep=grep"], environ)
    assert (ran.returncode, ran.stderr, calls(environ)) == (0, "", [])


def test_all_that_is_missing_is_installed_at_once(tmp_path: Path) -> None:
    """Each package once, in one go; what is there is not among them."""
    environ = programs(tmp_path / "bin", id=ROOT, apt_get=APT)
    assert without_terminal([REQUIRE, *WANTED], environ).returncode == 0
    ends = [call.partition("DPkg::Lock::Timeout=300 ")[2] for call in calls(environ)]
    assert ends == [
        "update",
        "install --no-install-recommends --download-only nix-bin patchelf",
        "install --no-install-recommends nix-bin patchelf",
    ]


def test_sudo_is_used_where_it_asks_for_nothing(tmp_path: Path) -> None:
    """A user who may use it without a password need type nothing."""
    environ = programs(tmp_path / "bin", id=USER, apt_get=APT, sudo=SUDO)
    assert without_terminal([REQUIRE, *WANTED], environ).returncode == 0
    assert "sudo" in calls(environ)
    assert calls(environ)[-1].endswith("install --no-install-recommends nix-bin patchelf")


@pytest.mark.parametrize(
    ("sudo", "command"), [({"sudo": NO_SUDO}, "sudo sh -c '"), ({}, "su -c '")]
)
def test_users_are_told_what_to_type(tmp_path: Path, sudo: dict[str, str], command: str) -> None:
    """Who may not install is told the one command that installs everything."""
    environ = programs(tmp_path / "bin", id=USER, apt_get=APT, **sudo)
    ran = without_terminal([REQUIRE, *WANTED], environ)
    assert ran.returncode == 1
    assert ran.stderr.splitlines() == [
        f"Please type this first: {command}apt-get update"
        " && apt-get install --no-install-recommends nix-bin patchelf'"
    ]
    assert calls(environ) == []


def test_without_apt_packages_are_named(tmp_path: Path) -> None:
    """On other systems, what is missing is named in one line."""
    ran = without_terminal([REQUIRE, *WANTED], programs(tmp_path / "bin", id=ROOT))
    assert (ran.returncode, len(ran.stderr.splitlines())) == (1, 1)
    assert "nix-bin patchelf" in ran.stderr


def test_dpkg_is_not_cut(tmp_path: Path) -> None:
    """Ctrl-C while packages are installed waits for apt, which would want to be repaired."""
    apt = f"""
case "$*" in *update*|*download-only*) exit 0 ;; esac
{LATER}
echo unpacking
until [ -e {tmp_path}/go ]; do sleep 0.1; done
touch {tmp_path}/whole
"""
    environ = programs(tmp_path / "bin", id=ROOT, apt_get=apt)
    ended = on_terminal(
        [REQUIRE, *WANTED],
        environ,
        ("so far: unpacking", ctrl_c),
        ("stopping when this has ended", lambda _: (tmp_path / "go").touch()),
    )
    assert (tmp_path / "whole").exists()
    assert (ended.code, ended.lines) == (130, [])


def test_an_old_python_is_said_first(tmp_path: Path) -> None:
    """Nothing is installed on a machine whose Python is too old for what comes then."""
    old = 'case "$*" in *3,\\ 11*) exit 1 ;; -V) echo Python 3.9.2 ;; esac'
    environ = programs(tmp_path / "bin", id=ROOT, apt_get=APT, python3=old)
    ran = without_terminal([REQUIRE, "venv=python3-venv", *WANTED], environ)
    assert (ran.returncode, len(ran.stderr.splitlines()), calls(environ)) == (1, 1, [])
    assert "Python 3.9.2" in ran.stderr
