"""The daemon as it is installed and started."""

import email
import os
import re
import signal
import socket
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path

import attrs
import pytest

from nixery.requirements import version
from tests.e2e.clients import Ran, run
from tests.e2e.daemon import TWISTD
from tests.e2e.fresh import check_out
from tests.e2e.packages import TOP
from tests.waiting import HUNG

EPOCH = 1_700_000_000
"""When the release was made, in seconds since 1970."""


@attrs.frozen
class Release:
    """An sdist, and the wheel built from it.

    :param files: the names of the files that both were made from.
    """

    sdist: Path
    wheel: Path
    files: frozenset[str]


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Release:
    """Made from a copy of the checkout: building leaves files behind."""
    source = tmp_path_factory.mktemp("source")
    check_out(source)
    files = frozenset(str(p.relative_to(source)) for p in source.rglob("*") if p.is_file())
    target = tmp_path_factory.mktemp("dist")
    script = [str(source / "scripts" / "dist"), str(target)]
    made = run(script, PYTHON=sys.executable, SOURCE_DATE_EPOCH=str(EPOCH))
    assert made.code == 0, made.output
    (sdist,), (wheel,) = target.glob("*.tar.gz"), target.glob("*.whl")
    return Release(sdist, wheel, files)


def test_contents_of_the_sdist(release: Release) -> None:
    """An sdist holds every file of the checkout, tests included, and what setuptools adds."""
    with tarfile.open(release.sdist) as archive:
        names = {m.name.partition("/")[2] for m in archive if m.isfile()}
    made = {name for name in names if name.startswith("nixery.egg-info/")}
    assert names - made == release.files | {"PKG-INFO", "setup.cfg"}
    assert "tests/e2e/test_packaging.py" in names


def test_contents_of_the_wheel(release: Release) -> None:
    """A wheel holds every file of the library, the plugin without a package file beside it, every
    Nix expression except those that install Nixery itself, and the documentation's text."""
    names = {n for n in zipfile.ZipFile(release.wheel).namelist() if ".dist-info/" not in n}
    library = {name for name in release.files if name.startswith("nixery/")}
    assert "nixery/py.typed" in library
    ourselves = {"nix/package.nix", "nix/container.nix", "nix/module.nix"}
    assert ourselves <= release.files
    expressions = {
        name.replace("nix/", "nixery/expressions/", 1)
        for name in release.files - ourselves
        if name.startswith("nix/")
    }
    documentation = {
        name.replace("docs/", "nixery/documentation/", 1)
        for name in release.files
        if re.fullmatch(r"docs/[^/]+\.md", name)
    }
    assert names == library | expressions | documentation | {"twisted/plugins/nixery_plugin.py"}


def test_metadata(release: Release) -> None:
    """The wheel states its licence, whose text it has, and describes itself by the README."""
    with zipfile.ZipFile(release.wheel) as archive:
        (name,) = [n for n in archive.namelist() if n.endswith(".dist-info/METADATA")]
        metadata = email.message_from_bytes(archive.read(name))
        licence = archive.read(name.replace("METADATA", "licenses/LICENSE"))
    assert (metadata["Name"], metadata["Version"]) == ("nixery", version())
    assert metadata["License-Expression"] == "Apache-2.0"
    assert licence == (TOP / "LICENSE").read_bytes()
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert str(metadata.get_payload()).startswith("# Nixery")


def test_releases_are_reproducible(release: Release) -> None:
    """Neither the time of a build, nor who built it, nor the modes of the checkout are in a
    release."""
    with tarfile.open(release.sdist) as archive:
        found = {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode & 0o066) for m in archive}
    assert found == {(EPOCH, 0, 0, "", "", 0o044)}
    # Of gzip's header: the flags, and the time.
    assert release.sdist.read_bytes()[3:8] == bytes(5)
    when = time.gmtime(EPOCH)[:5]
    entries = zipfile.ZipFile(release.wheel).infolist()
    assert {entry.date_time[:5] for entry in entries} == {when}
    # The mode of RECORD is setuptools' own.
    modes = {e.external_attr >> 16 & 0o066 for e in entries if not e.filename.endswith("/RECORD")}
    assert modes == {0o044}


@pytest.fixture(scope="module")
def installed(release: Release, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the wheel is installed in; its dependencies are those of the tests."""
    site = tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site)]
    done = run([*pip, str(release.wheel)])
    assert done.code == 0, done.output
    return site


def test_a_wheel_runs(installed: Path, tmp_path: Path) -> None:
    """Installed from a wheel, ``twistd nixery`` is there and finds its expressions and its
    documentation inside."""
    environ = {"HOME": str(tmp_path), "PORT": "0", "NIXERY_NIX_STORE": str(tmp_path / "nix")}
    (tmp_path / "default.nix").write_text("{ }")
    environ |= {"NIXERY_PKGS_PATH": str(tmp_path), "NIX_CONF_DIR": str(tmp_path)}
    checked = twistd("--check", PYTHONPATH=str(installed), **environ)
    assert checked.code == 0, checked.output
    assert f"the folder {tmp_path}\n" in checked.output
    script = (
        "import nixery, os; from nixery.nix.evaluation import find_expressions;"
        "from nixery.web.pages.documentation import find_documentation;"
        "package = os.path.dirname(nixery.__file__);"
        "print(find_expressions(package), find_documentation(package))"
    )
    found = run([sys.executable, "-c", script], PYTHONPATH=str(installed))
    folders = [str(installed / "nixery" / name) for name in ("expressions", "documentation")]
    assert found.output.split() == folders


def test_commands_of_a_wheel(installed: Path) -> None:
    """Both commands are there after an installation, and Twisted lists the plugin in its cache."""
    command = run([str(installed / "bin" / "nixery"), "--version"], PYTHONPATH=str(installed))
    assert command == Ran(0, f"nixery {version()}\n")
    plugin = twistd("--version", PYTHONPATH=str(installed))
    assert plugin == Ran(0, f"nixery {version()}\n")
    assert b"nixery_plugin" in (installed / "twisted" / "plugins" / "dropin.cache").read_bytes()


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
        assert word in " ".join(ran.output.split())  # wherever its lines break


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
