"""The daemon as it is installed and started."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.e2e.clients import Ran, run
from tests.e2e.daemon import TWISTD
from tests.e2e.packages import TOP
from tests.waiting import HUNG

BUILD_NEEDS = ("setup.py", "MANIFEST.in", "pyproject.toml", "README.md", "nixery", "nix", "twisted")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's wheel, built from its sdist, and that from a copy: building leaves things
    behind."""
    source = tmp_path_factory.mktemp("source")
    for name in BUILD_NEEDS:
        copy = shutil.copytree if (TOP / name).is_dir() else shutil.copy
        copy(TOP / name, source / name)
    target = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip"]
    tools = str(target / "tools")
    got = run([*pip, "install", "--quiet", "--target", tools, "setuptools"])
    assert got.code == 0, got.output
    script = (
        "import os, sys; from setuptools import build_meta;"
        "os.chdir(sys.argv[1]); build_meta.build_sdist(sys.argv[2])"
    )
    packed = run([sys.executable, "-c", script, str(source), str(target)], PYTHONPATH=tools)
    assert packed.code == 0, packed.output
    (sdist,) = target.glob("*.tar.gz")
    options = ["--quiet", "--no-deps", "--wheel-dir", str(target)]
    built = run([*pip, "wheel", *options, str(sdist)])
    assert built.code == 0, built.output
    return next(target.glob("*.whl"))


def test_what_is_in_the_wheel(wheel: Path) -> None:
    """A wheel holds the plugin, without a package file beside it, and every Nix expression."""
    names = set(zipfile.ZipFile(wheel).namelist())
    assert "twisted/plugins/nixery_plugin.py" in names
    assert "twisted/plugins/__init__.py" not in names
    shipped = {p.relative_to(TOP / "nix") for p in (TOP / "nix").rglob("*") if p.is_file()}
    # These install Nixery itself, from a checkout.
    ourselves = {Path("package.nix"), Path("container.nix"), Path("module.nix")}
    assert ourselves <= shipped
    for path in shipped - ourselves:
        if "__pycache__" not in path.parts:
            assert f"nixery/expressions/{path}" in names


def test_a_wheel_runs(wheel: Path, tmp_path: Path) -> None:
    """Installed from a wheel, ``twistd nixery`` is there and finds its expressions inside."""
    site = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site)]
    installed = run([*pip, str(wheel)])
    assert installed.code == 0, installed.output
    environ = {"HOME": str(tmp_path), "PORT": "0", "NIXERY_NIX_STORE": str(tmp_path / "nix")}
    (tmp_path / "default.nix").write_text("{ }")
    environ |= {"NIXERY_PKGS_PATH": str(tmp_path), "NIX_CONF_DIR": str(tmp_path)}
    checked = twistd("--check", PYTHONPATH=str(site), **environ)
    assert checked.code == 0, checked.output
    assert f"the folder {tmp_path}\n" in checked.output
    script = (
        "import nixery, os; from nixery.nix.evaluation import find_expressions;"
        "print(find_expressions(os.path.dirname(nixery.__file__)))"
    )
    found = run([sys.executable, "-c", script], PYTHONPATH=str(site))
    assert found.output.strip() == str(site / "nixery" / "expressions")


def twistd(*arguments: str, **environ: str) -> Ran:
    return run([TWISTD, "--nodaemon", "--pidfile=", "nixery", *arguments], **environ)


def test_broken_settings_are_all_named() -> None:
    """Broken settings end the start with exit code 1, a line for each, and no traceback."""
    ran = twistd("--hold", "x", PORT="http", NIX_TIMEOUT="-1", NIXERY_PKGS_PATH="relative")
    assert ran.code == 1
    for name in ("PORT", "NIX_TIMEOUT", "NIXERY_HOLD", "NIXERY_PKGS_PATH"):
        assert f"nixery: {name} is " in ran.output
    assert "Traceback" not in ran.output


def test_missing_programs_are_all_named(tmp_path: Path) -> None:
    """On a machine without Nix and git, the start says what to install."""
    ran = twistd("--check", PATH=str(tmp_path), HOME=str(tmp_path))
    assert ran.code == 1
    for program in ("nix-build", "git", "prlimit", "nice"):
        assert f"{program!r} is not in PATH" in ran.output


def test_a_port_in_use(tmp_path: Path) -> None:
    """A daemon that can't listen says so and ends with exit code 1."""
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        ran = twistd(PORT=str(taken.getsockname()[1]), STATE_DIRECTORY=str(tmp_path))
    assert ran.code == 1
    assert "cannot start" in ran.output
    assert "in use" in ran.output


def test_a_storage_that_cannot_be_made(tmp_path: Path) -> None:
    """A daemon whose storage can't be used says so and ends with exit code 1."""
    (tmp_path / "file").touch()
    ran = twistd(PORT="0", STATE_DIRECTORY=str(tmp_path), STORAGE_PATH=str(tmp_path / "file" / "x"))
    assert ran.code == 1
    assert f"{tmp_path}/file/x can't be the storage folder: Not a directory" in ran.output


def test_help_explains_every_setting() -> None:
    """``--help`` names every setting with its variable."""
    ran = twistd("--help")
    assert ran.code == 0
    for word in ("NIXERY_PKGS_REPO", "NIX_TIMEOUT", "--layer-budget", "--check", "[default: 8080]"):
        assert word in ran.output


def test_terminal_interrupt(tmp_path: Path) -> None:
    """^C in a terminal ends the daemon and its children, without a traceback."""
    environ = {**os.environ, "PORT": "0", "STATE_DIRECTORY": str(tmp_path)}
    process = subprocess.Popen(
        [TWISTD, "--nodaemon", "--pidfile=", "nixery"],
        cwd="/",
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # A test run in the background has it ignored, and its children would inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout is not None
    output = ""
    while "listening on localhost:" not in output:
        line = process.stdout.readline()
        assert line, output
        output += line
    process.send_signal(signal.SIGINT)
    output += process.communicate(timeout=HUNG)[0]
    assert "Traceback" not in output
