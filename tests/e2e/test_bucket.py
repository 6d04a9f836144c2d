"""Images in a bucket, on the emulator that developers use: real clients, several daemons."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.e2e.clients import Docker, Podman, run
from tests.e2e.conftest import StartDaemon
from tests.e2e.daemon import Daemon
from tests.gcs.fake import FakeGcs, fake_gcs_server

pytestmark = [pytest.mark.real_nix, pytest.mark.real_client]


@pytest.fixture
def bucket(tmp_path: Path) -> Iterator[FakeGcs]:
    with fake_gcs_server(tmp_path / "gcs") as fake:
        yield fake


def skopeo_copy(daemon: Daemon, name: str, folder: Path) -> None:
    source = f"docker://{daemon.host}/{name}"
    ran = run(["skopeo", "copy", "--src-tls-verify=false", source, f"dir:{folder}"])
    assert ran.code == 0, ran.output


@pytest.mark.parametrize("redirect", ["on", "off"])
def test_pulls(
    start_daemon: StartDaemon, bucket: FakeGcs, docker: Docker, tmp_path: Path, redirect: str
) -> None:
    """Images are built into the bucket, and clients load them from it, or through the daemon;
    nothing is left that is not part of an image, nor on this machine."""
    daemon = start_daemon(**bucket.environ, NIXERY_STORAGE_REDIRECT=redirect)
    image = f"{daemon.host}/shell/git"
    docker.ok("pull", image)
    assert "git version" in docker.run(image, "git", "--version")
    docker.ok("image", "rm", image)
    skopeo_copy(daemon, "shell/git", tmp_path / "copy")
    assert {name.partition("/")[0] for name in bucket.names()} == {"layers", "builds", "manifests"}
    assert not daemon.storage.exists()


def test_instances(
    start_daemon: StartDaemon, bucket: FakeGcs, podman: Podman, tmp_path: Path
) -> None:
    """Of several daemons that share a bucket one builds an image, whoever is asked; a daemon
    that comes later builds nothing."""
    daemons = [start_daemon(tmp_path / name, **bucket.environ) for name in ("a", "b", "c")]
    with ThreadPoolExecutor(6) as clients:
        answers = list(clients.map(lambda daemon: daemon.pull("jq"), daemons * 2))
    assert len({answer.headers["Docker-Content-Digest"] for answer in answers}) == 1
    assert sum(daemon.nix_builds for daemon in daemons) == 1
    later = start_daemon(tmp_path / "d", **bucket.environ)
    podman.ok("pull", "--tls-verify=false", f"{later.host}/jq")
    assert later.nix_builds == 0
