"""Ready means ready: what a start finds out, with the real Nix."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.e2e.conftest import StartDaemon
from tests.e2e.daemon import TWISTD, Daemon
from tests.e2e.packages import PackageSet
from tests.waiting import HUNG, wait_until

pytestmark = pytest.mark.real_nix

# A user namespace in which no further one can be made, nor any of mounts.
NO_NAMESPACES = (
    *("unshare", "--user", "--map-root-user", "sh", "-c"),
    'for kind in user mnt; do echo 0 > /proc/sys/user/max_${kind}_namespaces; done && exec "$@"',
    "sh",
)
SET = """{ hello = derivation {
  name = "hello"; system = builtins.currentSystem; builder = "/bin/sh";
  args = [ "-c" "echo > $out" ];
}; }
"""
MARKING = """{{ marking = derivation {{
  name = "marking"; system = builtins.currentSystem; builder = "/bin/sh";
  args = [ "-c" "echo > {marker}; echo > $out" ];
}}; }}
"""


def not_ready(daemon: Daemon) -> dict[str, str]:
    """What is not well, and why."""
    checks = daemon.get("/readyz", Accept="application/json").json()["checks"]
    return {name: check["remark"] for name, check in checks.items() if not check["ok"]}


def said(daemon: Daemon, words: str, name: str) -> bool:
    """Whether it is said of something that is not well."""
    return words in not_ready(daemon).get(name, "")


def trials_in(store: Path) -> set[Path]:
    """What trials have left in a store; daemons that were stopped meanwhile leave something."""
    return set(store.glob("*nixery-trial*"))


def check(environ: Mapping[str, str], *before: str) -> subprocess.CompletedProcess[str]:
    """``twistd nixery --check``.

    :param before: a command that runs the one behind it.
    """
    command = [*before, TWISTD, "--nodaemon", "--pidfile=", "nixery", "--check"]
    environ = {**os.environ, "NIXERY_LISTEN": "tcp:0:interface=127.0.0.1", **environ}
    return subprocess.run(
        command, cwd="/", env=environ, capture_output=True, text=True, timeout=HUNG
    )


def test_what_is_said_can_be_pulled(start_daemon: StartDaemon, package_set: PackageSet) -> None:
    """The daemon names an image when all is ready, and that image can be pulled; the build that
    showed it is no more in the store."""
    store = Path(package_set.environ["NIXERY_NIX_STORE"]) / "nix/store"
    before = trials_in(store)
    daemon = start_daemon()
    image = daemon.until_ready()
    wait_until(lambda: not_ready(daemon) == {})
    assert image is not None
    assert daemon.pull(image).status == 200
    assert trials_in(store) <= before


def test_check_of_a_good_machine(package_set: PackageSet, tmp_path: Path) -> None:
    """``--check`` finds nothing where all is well, and leaves nothing."""
    environ = {**package_set.environ, "STATE_DIRECTORY": str(tmp_path / "state")}
    ran = check({**environ, "TMPDIR": str(tmp_path)})
    assert (ran.returncode, ran.stderr) == (0, "")
    assert list(tmp_path.iterdir()) == []


def test_no_namespaces(start_daemon: StartDaemon, tmp_path: Path) -> None:
    """Where Nix can't make its sandbox, ``--check``, the log and ``/readyz`` say so, with what to
    do; images that are known are served all the same, and no builder runs without it."""
    packages = tmp_path / "set"
    packages.mkdir()
    (packages / "default.nix").write_text(SET)
    state, environ = tmp_path / "state", {"NIXERY_PKGS_PATH": str(packages)}
    good = start_daemon(state, **environ)
    wait_until(lambda: not_ready(good) == {})
    assert good.pull("hello").status == 200
    assert good.stop() == 0
    daemon = start_daemon(state, before=NO_NAMESPACES, **environ)
    assert daemon.pull("hello").status == 200
    # A look that takes long on a busy machine is none; the next one tells.
    wait_until(lambda: said(daemon, "can't make its sandbox", "builds"))
    wait_until(lambda: set(not_ready(daemon)) == {"builds"})
    wait_until(lambda: said(daemon, "sysctl user.max_user_namespaces=", "builds"))
    assert "not ready: builds: " in daemon.log
    assert "; try: docker pull" not in daemon.log
    marker = tmp_path / "marker"
    (packages / "default.nix").write_text(MARKING.format(marker=marker))
    refused = daemon.pull("marking")
    assert refused.status != 200, refused.body
    assert not marker.exists()
    ran = check({**daemon.environ, "STATE_DIRECTORY": str(state)}, *NO_NAMESPACES)
    assert ran.returncode == 1
    assert "nixery: Nix is not working: Nix can't make its sandbox" in ran.stderr


def test_no_package_set(start_daemon: StartDaemon, tmp_path: Path) -> None:
    """A folder without a default.nix is named, and the daemon is ready as soon as it has one."""
    packages = tmp_path / "set"
    packages.mkdir()
    daemon = start_daemon(NIXERY_PKGS_PATH=str(packages))
    wait_until(lambda: said(daemon, "there is no default.nix", "source"))
    wait_until(lambda: set(not_ready(daemon)) == {"source"})
    assert "not ready: source: " in daemon.log
    (packages / "default.nix").write_text(SET)
    assert daemon.until_ready() == "hello"


def test_no_repository(start_daemon: StartDaemon, tmp_path: Path) -> None:
    """A package source that can't be reached is named at the start."""
    daemon = start_daemon(NIXERY_PKGS_PATH="", NIXERY_PKGS_REPO=f"file://{tmp_path}/none")
    wait_until(lambda: said(daemon, "does not appear to be a git", "source"))
    wait_until(lambda: set(not_ready(daemon)) == {"source"})
    assert "not ready: source: " in daemon.log
