"""The daemon and the folders that it has, or shares: others' files, locks, disks for reading."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import StartDaemon
from tests.e2e.daemon import TWISTD, running
from tests.e2e.packages import PackageSet
from tests.storage.places import mounted
from tests.waiting import HUNG, wait_until

pytestmark = pytest.mark.real_nix

FILES = {
    "state": ["history/notes.txt"],
    "storage": ["staging/website/index.html", "leases/contract.pdf", "layers/base.psd"],
}


@pytest.mark.parametrize("whose", FILES)
@pytest.mark.parametrize("check", [True, False])
def test_folders_of_somebody_else(
    package_set: PackageSet, tmp_path: Path, whose: str, check: bool
) -> None:
    """A folder that holds somebody's files is refused, by ``--check`` too; nothing is touched."""
    folders = {name: tmp_path / name for name in FILES}
    for name in FILES[whose]:
        (folders[whose] / name).parent.mkdir(parents=True)
        (folders[whose] / name).write_text("seen")
    before = sorted(tmp_path.rglob("*"))
    settings = {"STATE_DIRECTORY": str(folders["state"]), "STORAGE_PATH": str(folders["storage"])}
    command = [TWISTD, "--nodaemon", "--pidfile=", "nixery", *(["--check"] if check else [])]
    environ = {**os.environ, **package_set.environ, **settings, "PORT": "0"}
    ran = subprocess.run(
        command, env=environ, cwd="/", capture_output=True, text=True, timeout=HUNG
    )
    assert ran.returncode == 1, ran.stderr
    assert f"{folders[whose]} can't be the {whose} folder" in ran.stderr
    assert sorted(tmp_path.rglob("*")) == before


def test_the_history_of_a_daemon_that_ends(start_daemon: StartDaemon, tmp_path: Path) -> None:
    """A second daemon on a state folder says so, and has the history of the first when that
    ends, besides its own."""
    first = start_daemon(state=tmp_path / "state")
    assert first.pull("hello").status == 200
    second = start_daemon(state=tmp_path / "state")
    wait_until(lambda: "another daemon uses" in second.log)
    assert second.get("/builds").json() == []
    assert first.stop() == 0
    wait_until(lambda: second.get("/builds").json())
    (build,) = second.get("/builds").json()
    assert build["state"] == "done"


def test_a_lease_of_a_daemon_that_is_stopped(
    start_daemon: StartDaemon, package_set: PackageSet, tmp_path: Path
) -> None:
    """The image that a daemon was making when it was stopped is made by another one on the same
    storage, before the build's time is over; the first does no harm when it goes on."""
    shared = str(tmp_path / "images")
    settings = {"STORAGE_PATH": shared, "NIXERY_HOLD": "1"}
    packages = package_set.with_slow(tmp_path)
    first = start_daemon(state=tmp_path / "first", packages=packages, **settings)
    second = start_daemon(state=tmp_path / "second", packages=packages, **settings)
    assert first.get("/v2/slow/manifests/latest").status == 307
    wait_until(lambda: len(list((tmp_path / "images" / "leases").iterdir())) == 1)
    first.process.send_signal(signal.SIGSTOP)
    try:
        packages.go_on()
        answer = second.pull("slow")
        assert answer.status == 200, answer.body
        assert "is taken over" in second.log
    finally:
        first.process.send_signal(signal.SIGCONT)
    assert first.pull("slow").body == answer.body
    wait_until(lambda: not list((tmp_path / "images" / "leases").iterdir()))


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of the test's own."""
    with mounted(tmp_path / "disk", "size=512m"):
        yield tmp_path / "disk"


def test_a_disk_that_can_only_be_read(package_set: PackageSet, disk: Path) -> None:
    """A daemon that starts on a disk that can only be read serves what is there; it is not ready,
    and says why to those who ask for more."""
    with running(disk / "state", package_set.environ) as daemon:
        known = daemon.pull("hello")
        assert known.status == 200
        daemon.stop()
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    # What the tests themselves write goes elsewhere.
    environ = {**package_set.environ, "STATE_DIRECTORY": str(disk / "state")}
    with running(disk.parent / "again", environ) as daemon:
        assert daemon.pull("hello").body == known.body
        for layer in known.json()["layers"]:
            assert len(daemon.get(f"/v2/hello/blobs/{layer['digest']}").body) == layer["size"]
        wait_until(lambda: b"Read-only file system" in daemon.get("/readyz").body)
        assert daemon.get("/readyz").status == 503
        new = daemon.pull("jq")
        assert new.status == 503
        assert b"Read-only file system" in new.body
        assert daemon.get("/healthz").status == 200
        assert daemon.get("/builds").status == 200
