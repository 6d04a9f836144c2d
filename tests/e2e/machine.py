"""A real systemd that runs the units, as process 1 of a machine within this one."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import attrs
import psutil

from tests.e2e.clients import Ran, run
from tests.e2e.packages import TOP, PackageSet
from tests.leftovers import remove
from tests.waiting import wait_until

PYTHON = f"/usr/bin/python3.{sys.version_info.minor}"
"""The same as in the virtual environment; a home folder, where that may be, is hidden by units."""
_SITE = f"lib/python3.{sys.version_info.minor}/site-packages"


@attrs.frozen
class Machine:
    """A running systemd.

    :param init: its process.
    """

    init: psutil.Process

    def __call__(self, *argv: str) -> Ran:
        """Run a command there."""
        path = "PATH=/usr/sbin:/usr/bin:/sbin:/bin"
        enter = ["nsenter", "--target", str(self.init.pid), "--all", "env", path]
        return run([*enter, *argv])

    def ok(self, *argv: str) -> str:
        """The output of a command that must succeed."""
        ran = self(*argv)
        failed = f"{self.journal()}\n{' '.join(argv)}\nexit code {ran.code}: {ran.output}"
        assert ran.code == 0, failed
        return ran.output

    def journal(self) -> str:
        """What the service has said."""
        return self("journalctl", "--no-pager", "--output=cat", "--unit=nixery").output

    def show(self, name: str) -> str:
        """A property of the service."""
        return self.ok("systemctl", "show", "--value", f"--property={name}", "nixery").strip()


@contextmanager
def machine(packages: PackageSet) -> Iterator[Machine]:
    """Boot a machine on which Nixery is installed and its units are not started; needs root."""
    # overlayfs takes no ':' in paths, and theirs are short.
    folder = Path(tempfile.mkdtemp(prefix="machine-"))
    try:
        _install(folder / "layer", packages)
        with (folder / "log").open("wb") as log:
            script = str(TOP / "tests" / "e2e" / "machine.sh")
            argv = [script, str(folder), str(folder / "layer"), sys.prefix]
            process = subprocess.Popen(argv, stdout=log, stderr=subprocess.STDOUT)
        try:
            yield _wait_until_up(process, folder / "log")
        finally:
            process.kill()  # and with it all that is in its namespaces
            process.wait()
            _remove_groups(folder)
    finally:
        remove(folder)


def _wait_until_up(process: "subprocess.Popen[bytes]", log: Path) -> Machine:
    """Wait for systemd, and until it has done what it does at its start."""
    found: list[psutil.Process] = []

    def is_there() -> bool:
        assert process.poll() is None, log.read_text()
        found[:] = [c for c in psutil.Process(process.pid).children() if c.name() == "systemd"]
        return bool(found)

    wait_until(is_there)
    up = Machine(found[0])
    wait_until(lambda: up("systemctl", "is-active", "sysinit.target").code == 0)
    return up


def _remove_groups(folder: Path) -> None:
    """Remove the control groups; the kernel does not let go of them at once."""
    top = Path((folder / "group").read_text().strip())

    def is_gone() -> bool:
        for group in [*sorted((p for p in top.rglob("*") if p.is_dir()), reverse=True), top]:
            with suppress(OSError):
                group.rmdir()
        return not top.exists()

    wait_until(is_gone, f"{top} is still used")


def _install(layer: Path, packages: PackageSet) -> None:
    """Write what an administrator installs, and the package set."""
    for folder in ("etc/systemd/system", "etc/sysusers.d", "etc/default"):
        (layer / folder).mkdir(parents=True)
    for unit in ("nixery.service", "nixery.socket"):
        shutil.copy(TOP / "systemd" / unit, layer / "etc/systemd/system")
    shutil.copy(TOP / "systemd" / "nixery.sysusers", layer / "etc/sysusers.d/nixery.conf")
    (layer / "etc/default/nixery").write_text(
        "NIX_CONF_DIR=/opt/layer/packages\nNIX_USER_CONF_FILES=/dev/null\n"
        "NIXERY_PKGS_PATH=/opt/layer/packages/test-pkgs\nNIX_PATH=tests=/opt/layer/packages\n"
    )
    made = Path(packages.environ["NIX_CONF_DIR"])
    there = layer / "opt" / "layer" / "packages"
    shutil.copytree(made, there)
    configuration = (made / "nix.conf").read_text()
    (there / "nix.conf").write_text(configuration.replace(str(made), "/opt/layer/packages"))
    _install_program(layer / "opt" / "layer" / "venv")


def _install_program(venv: Path) -> None:
    """Write what turns the tests' virtual environment into one of Nixery's own."""
    site = venv / _SITE
    for name in ("nixery", "twisted"):
        ignored = shutil.ignore_patterns("__pycache__", "dropin.cache")
        shutil.copytree(TOP / name, site / name, ignore=ignored)
    shutil.copytree(TOP / "nix", site / "nixery" / "expressions")
    programs = venv / "bin"
    programs.mkdir()
    for name in ("python", "python3"):
        (programs / name).symlink_to(PYTHON)
    script = (Path(sys.prefix) / "bin" / "twistd").read_text().partition("\n")[2]
    (programs / "twistd").write_text(f"#!/opt/nixery/bin/python\n{script}")
    os.chmod(programs / "twistd", 0o755)
    (venv / "pyvenv.cfg").write_text("home = /usr/bin\n")
