"""State and storage that outlive a daemon: in a backup, and under another version."""

import getpass
import grp
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.clients import run
from tests.e2e.conftest import StartDaemon
from tests.e2e.daemon import Daemon
from tests.e2e.packages import TOP
from tests.examples import moved, typed

pytestmark = pytest.mark.real_nix

OLD = "3c4a1a83f9c3569d953d1a39a01b93ebe6864810"
"""The version that is upgraded from: the last one without a command line of its own."""


def shell(command: str) -> None:
    """Type a command."""
    done = run(["bash", "-c", command])
    assert done.code == 0, done.output


def digests(daemon: Daemon, name: str) -> list[str]:
    """The digests of an image: its manifest's and its blobs'."""
    answer = daemon.pull(name)
    assert answer.status == 200
    manifest = json.loads(answer.body)
    blobs = [manifest["config"], *manifest["layers"]]
    return [answer.headers["Docker-Content-Digest"], *(blob["digest"] for blob in blobs)]


def served(daemon: Daemon, name: str, manifest: str, *blobs: str) -> Iterator[int]:
    """The statuses of all that an image consists of, asked for by digest."""
    yield daemon.get(f"/v2/{name}/manifests/{manifest}").status
    for digest in blobs:
        yield daemon.get(f"/v2/{name}/blobs/{digest}").status


def test_a_backup(start_daemon: StartDaemon, tmp_path: Path) -> None:
    """A copy that was made while the daemon ran, by the page's commands, has its images and its
    history: where it is restored, nothing is built again."""
    here, there, backup = tmp_path / "here", tmp_path / "there", tmp_path / "backup"
    backup.mkdir()
    (tmp_path / "root" / "etc" / "default").mkdir(parents=True)
    (tmp_path / "root" / "etc" / "default" / "nixery").write_text("NIXERY_CHANNEL=x\n")
    save, save_settings, make_folder, restore = typed("backup")
    daemon = start_daemon(state=here)
    image = digests(daemon, "hello")
    assert daemon.pull("broken").status == 400
    builds = [build["id"] for build in daemon.get("/builds").json()]
    shell(moved(save, {"/backup": backup, "/var/lib/nixery": here}))
    root = f"--directory {tmp_path}/root "
    shell(moved(save_settings, {"/backup": backup, "--directory / ": root}))
    assert daemon.stop() == 0
    shutil.rmtree(here)
    mine = f"-o {getpass.getuser()} -g {grp.getgrgid(os.getgid()).gr_name} "
    shell(moved(make_folder, {"-o nixery -g nixery ": mine, "/var/lib/nixery": there}))
    shell(moved(restore, {"/backup": backup, "/var/lib/nixery": there}))
    restored = start_daemon(state=there)
    assert digests(restored, "hello") == image
    assert set(served(restored, "hello", *image)) == {200}
    assert restored.nix_builds == 0
    assert [build["id"] for build in restored.get("/builds").json()] == builds
    assert {path.name for path in backup.iterdir()} == {"nixery.tar", "settings.tar"}


@pytest.fixture
def old(tmp_path: Path) -> str:
    """The old version, for ``PYTHONPATH``."""
    folder = tmp_path / "old"
    folder.mkdir()
    packed = subprocess.run(
        ["git", "-C", str(TOP), "archive", OLD, "nixery", "nix", "twisted"],
        capture_output=True,
        check=False,
    )
    assert packed.returncode == 0, f"this takes the repository's history: {packed.stderr!r}"
    subprocess.run(["tar", "-x", "-C", str(folder)], input=packed.stdout, check=True)
    ask = [sys.executable, "-c", "import nixery.tap; print(nixery.tap.__file__)"]
    found = subprocess.run(
        ask, cwd="/", env={**os.environ, "PYTHONPATH": str(folder)}, capture_output=True, text=True
    )
    assert found.stdout.startswith(str(folder)), found.stderr
    return str(folder)


def test_an_upgrade(start_daemon: StartDaemon, old: str, tmp_path: Path) -> None:
    """What an old version has made is served by this one, by digest and by tag, and its history is
    shown; and what this one has made is served by the old one again."""
    state = tmp_path / "state"
    before = start_daemon(state=state, PYTHONPATH=old)
    image = digests(before, "hello")
    builds = [build["id"] for build in before.get("/builds").json()]
    assert before.stop() == 0

    daemon = start_daemon(state=state)
    assert set(served(daemon, "hello", *image)) == {200}
    assert daemon.nix_builds == before.nix_builds  # which the two count together
    again, more = digests(daemon, "hello"), digests(daemon, "shell/hello")
    shown = [build["id"] for build in daemon.get("/builds").json()]
    assert shown[-len(builds) :] == builds
    assert daemon.get(f"/builds/{builds[0]}/log").status == 200
    assert daemon.stop() == 0

    back = start_daemon(state=state, PYTHONPATH=old)
    for name, made in (("hello", image), ("hello", again), ("shell/hello", more)):
        assert set(served(back, name, *made)) == {200}
    assert digests(back, "hello") == image
    assert set(back.get("/builds").json()[0]) >= {"id", "name", "state"}
