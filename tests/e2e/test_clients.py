"""Clients that people have: of Debian 13 and later, and of PyPI. docs/clients.md tells of them."""

import json
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import attrs
import oras.client  # type: ignore[import-untyped]
import pytest

from nixery.model.manifest import INDEX_TYPE
from tests.e2e.clients import (
    Containerd,
    Docker,
    Podman,
    Ran,
    containerd,
    engine,
    podman_storage,
    run,
    storage_driver,
)
from tests.e2e.conftest import StartDaemon
from tests.e2e.daemon import Daemon
from tests.e2e.debian import DEBIAN_13, DEBIAN_TESTING, Root, make_root
from tests.e2e.packages import PackageSet
from tests.e2e.test_auth import users
from tests.waiting import wait_until
from tests.web.certificates import make_pair

pytestmark = [pytest.mark.real_nix, pytest.mark.real_client]

UDOCKER = str(Path(sys.executable).with_name("udocker"))


@pytest.fixture(scope="module")
def debian_13() -> Root:
    """The programs of Debian 13."""
    return make_root(DEBIAN_13)


@pytest.fixture(scope="module")
def debian_testing() -> Root:
    """The programs of the release after it."""
    return make_root(DEBIAN_TESTING)


@pytest.fixture(scope="module")
def docker_26(debian_13: Root) -> Iterator[Docker]:
    """Debian 13's Docker engine; it builds with BuildKit."""
    with engine(debian_13) as docker:
        yield docker


@pytest.fixture(scope="module")
def docker_28(debian_testing: Root) -> Iterator[Docker]:
    """A Docker engine that keeps images in containerd, as new installations of 29 do."""
    with engine(debian_testing, containerd_snapshotter=True) as docker:
        yield docker


@pytest.fixture(scope="module")
def ctr(debian_testing: Root) -> Iterator[Containerd]:
    """A containerd 2."""
    with containerd(debian_testing) as ctr:
        yield ctr


@pytest.fixture
def podman_5(debian_13: Root) -> Iterator[Podman]:
    """Debian 13's podman."""
    with podman_storage(debian_13) as podman:
        yield podman


@pytest.fixture
def udocker(tmp_path: Path) -> Callable[..., Ran]:
    """udocker, which loads nothing but images."""
    folder = tmp_path / "udocker"
    folder.mkdir()
    (folder / "udocker.conf").write_text("autoinstall = False\n")

    def call(*arguments: str) -> Ran:
        return run([UDOCKER, "--allow-root", *arguments], UDOCKER_DIR=str(folder))

    return call


def ok(root: Root, folder: Path, *argv: str) -> str:
    """The output of a program of a release, which must succeed."""
    ran = run(root.inside(folder, *argv))
    assert ran.code == 0, f"{' '.join(argv)}: {ran.output}"
    return ran.output


@pytest.fixture
def buildah(debian_13: Root) -> Iterator[Callable[..., str]]:
    """Debian 13's buildah, with a storage of its own."""
    with podman_storage(debian_13) as storage:
        places = ["--root", f"{storage.home}/root", "--runroot", f"{storage.home}/run"]
        driver = f"--storage-driver={storage_driver()}"
        yield partial(ok, debian_13, storage.home, "buildah", *places, driver)


@attrs.frozen
class Programs:
    """All of them."""

    docker_26: Docker
    docker_28: Docker
    ctr: Containerd
    podman: Podman
    buildah: Callable[..., str]
    debian_13: Root
    debian_testing: Root


@pytest.fixture
def programs(
    docker_26: Docker,
    docker_28: Docker,
    ctr: Containerd,
    podman_5: Podman,
    buildah: Callable[..., str],
    debian_13: Root,
    debian_testing: Root,
) -> Programs:
    """What a test runs that is about all clients."""
    return Programs(docker_26, docker_28, ctr, podman_5, buildah, debian_13, debian_testing)


@pytest.mark.parametrize("version", ["docker_26", "docker_28"])
def test_docker_build(daemon: Daemon, request: pytest.FixtureRequest, version: str) -> None:
    """An image is the base of ``docker build``, whose BuildKit tries TLS first."""
    docker: Docker = request.getfixturevalue(version)
    folder = docker.folder / "context"
    folder.mkdir()
    lines = [f"FROM {daemon.host}/shell/hello", "RUN hello > /greeting", 'CMD ["cat", "/greeting"]']
    (folder / "Dockerfile").write_text("\n".join(lines))
    docker.ok("build", "--network=none", "--tag=built", str(folder))
    assert "Hello" in docker.run("built")


def test_docker_with_containerd(daemon: Daemon, docker_28: Docker) -> None:
    """A Docker that keeps images in containerd pulls, runs and inspects them."""
    image = f"{daemon.host}/hello"
    docker_28.ok("pull", image)
    assert "Hello" in docker_28.run(image, "hello")
    shown = json.loads(docker_28.ok("manifest", "inspect", "--insecure", image))
    assert shown["layers"]


@pytest.mark.parametrize("options", [(), ("--local", "-k")], ids=["usual", "local"])
def test_containerd(daemon: Daemon, ctr: Containerd, options: tuple[str, ...]) -> None:
    """containerd 2 pulls without being told that the registry speaks plain HTTP."""
    image = f"{daemon.host}/jq:latest"
    ctr.ok("images", "pull", *options, image)
    assert image in ctr.ok("images", "list", "-q")
    ctr.ok("images", "rm", "--sync", image)


def test_podman(daemon: Daemon, podman_5: Podman) -> None:
    """podman 5 takes the image, with the digest that the registry gave."""
    digest = daemon.pull("hello").headers["Docker-Content-Digest"]
    image = f"{daemon.host}/hello"
    podman_5.ok("pull", "--tls-verify=false", image)
    assert digest in podman_5.ok("inspect", image)


def test_skopeo(daemon: Daemon, debian_13: Root, tmp_path: Path) -> None:
    """Debian 13's skopeo copies an image with its manifest unchanged."""
    copy = ["skopeo", "copy", "--src-tls-verify=false", "--preserve-digests"]
    ok(debian_13, tmp_path, *copy, f"docker://{daemon.host}/hello", f"dir:{tmp_path}/copy")
    assert (tmp_path / "copy" / "manifest.json").read_bytes() == daemon.pull("hello").body


def test_buildah(daemon: Daemon, buildah: Callable[..., str]) -> None:
    """buildah starts from an image."""
    assert "hello" in buildah("from", "--tls-verify=false", f"{daemon.host}/hello")


def test_crane(daemon: Daemon, debian_testing: Root, tmp_path: Path) -> None:
    """crane tells the digest, and loads the image, without being told of plain HTTP."""
    digest = daemon.pull("hello").headers["Docker-Content-Digest"]
    image = f"{daemon.host}/hello"
    assert digest in ok(debian_testing, tmp_path, "crane", "digest", image)
    ok(debian_testing, tmp_path, "crane", "pull", image, f"{tmp_path}/image.tar")


def test_oras(daemon: Daemon, debian_13: Root, tmp_path: Path) -> None:
    """oras, the program and PyPI's, load the manifest; the latter a layer of it as well."""
    image = f"{daemon.host}/hello:latest"
    fetched = ok(debian_13, tmp_path, "oras", "manifest", "fetch", image)
    client = oras.client.OrasClient(hostname=daemon.host, insecure=True)
    manifest = client.get_manifest(image)
    assert manifest == json.loads(fetched)
    layer = manifest["layers"][0]
    client.download_blob(image, layer["digest"], str(tmp_path / "layer"))
    assert (tmp_path / "layer").stat().st_size == layer["size"]


def test_udocker(daemon: Daemon, udocker: Callable[..., Ran]) -> None:
    """udocker takes an image that is there already."""
    daemon.pull("shell/hello")
    pulled = udocker("pull", f"--registry=http://{daemon.host}", "shell/hello:latest")
    assert pulled.code == 0, pulled.output
    assert "shell/hello:latest" in udocker("images").output


def test_redirects(
    start_daemon: StartDaemon,
    package_set: PackageSet,
    programs: Programs,
    udocker: Callable[..., Ran],
    tmp_path: Path,
) -> None:
    """Clients that are sent to themselves while an image is built get it when it is; udocker,
    which can't follow, when it asks after that."""
    packages = package_set.with_slow(tmp_path)
    daemon = start_daemon(packages=packages, NIXERY_HOLD="5")
    image = f"{daemon.host}/slow"
    pull = ("pull", "--tls-verify=false", image)
    python = oras.client.OrasClient(hostname=daemon.host, insecure=True)
    in_13 = partial(ok, programs.debian_13, tmp_path)
    asking: list[Callable[[], object]] = [
        lambda: programs.docker_26.ok("pull", image),
        lambda: programs.docker_28.ok("pull", image),
        lambda: programs.ctr.ok("images", "pull", f"{image}:latest"),
        lambda: programs.podman.ok(*pull),
        lambda: programs.buildah(*pull),
        lambda: in_13("skopeo", "inspect", "--tls-verify=false", f"docker://{image}"),
        lambda: in_13("oras", "manifest", "fetch", f"{image}:latest"),
        lambda: ok(programs.debian_testing, tmp_path, "crane", "digest", image),
        lambda: python.get_manifest(f"{image}:latest"),
    ]
    with ThreadPoolExecutor(len(asking)) as pool:
        asked = [pool.submit(ask) for ask in asking]
        wait_until(lambda: daemon.requests_running() == len(asking))
        sent = daemon.log.count(": held, 307 ")
        wait_until(lambda: daemon.log.count(": held, 307 ") >= sent + len(asking))
        packages.go_on()
        for each in asked:
            each.result()
    daemon.pull("shell/slow")
    assert udocker("pull", f"--registry=http://{daemon.host}", "shell/slow:latest").code == 0


def test_zstd(start_daemon: StartDaemon, programs: Programs) -> None:
    """Today's engines take layers that are compressed by zstd."""
    daemon = start_daemon(NIXERY_COMPRESSION="zstd")
    image = f"{daemon.host}/hello"
    for docker in (programs.docker_26, programs.docker_28):
        docker.ok("pull", image)
        assert "Hello" in docker.run(image, "hello")
    programs.ctr.ok("images", "pull", f"{image}:latest")
    programs.podman.ok("pull", "--tls-verify=false", image)
    programs.buildah("pull", "--tls-verify=false", image)


def test_indexes(start_daemon: StartDaemon, programs: Programs, tmp_path: Path) -> None:
    """Of an index, each client takes the image of the platform that it asks for."""
    daemon = start_daemon(NIXERY_PLATFORMS="linux/amd64,linux/arm64")
    image = f"{daemon.host}/hello"
    podman, buildah = ["pull", "--tls-verify=false"], ["from", "--tls-verify=false"]
    for architecture in ("amd64", "arm64"):
        platform = f"--platform=linux/{architecture}"
        for docker in (programs.docker_26, programs.docker_28):
            docker.ok("pull", platform, image)
            found = json.loads(docker.ok("image", "inspect", image))[0]
            assert docker is programs.docker_28 or found["Architecture"] == architecture
        programs.ctr.ok("images", "pull", platform, f"{image}:latest")
        programs.podman.ok(*podman, platform, image)
        shown = programs.podman.ok("inspect", "--format={{.Architecture}}", image)
        assert shown.split()[-1] == architecture
        assert "hello" in programs.buildah(*buildah, platform, image)
        config = ok(programs.debian_testing, tmp_path, "crane", "config", platform, image)
        assert json.loads(config)["architecture"] == architecture
        fetched = ["oras", "manifest", "fetch", platform, f"{image}:latest"]
        assert "layers" in json.loads(ok(programs.debian_13, tmp_path, *fetched))
    for docker in (programs.docker_26, programs.docker_28):
        shown = json.loads(docker.ok("manifest", "inspect", "--insecure", image))
        assert [m["platform"]["architecture"] for m in shown["manifests"]] == ["amd64", "arm64"]
    digest = daemon.pull("hello", accept=INDEX_TYPE).headers["Docker-Content-Digest"]
    assert digest in ok(programs.debian_testing, tmp_path, "crane", "digest", image)


def test_architectures(daemon: Daemon, docker_26: Docker, ctr: Containerd) -> None:
    """An image is for the architecture that its name says, whatever the client asks for; Docker
    tells if that is another."""
    image = f"{daemon.host}/arm64/hello"
    docker_26.ok("pull", "--platform=linux/arm64", image)
    assert json.loads(docker_26.ok("inspect", image))[0]["Architecture"] == "arm64"
    ctr.ok("images", "pull", "--platform=linux/arm64", f"{image}:latest")
    other = docker_26("pull", "--platform=linux/arm64", f"{daemon.host}/hello")
    assert "wanted linux/arm64, actual: linux/amd64" in other.output


@pytest.mark.parametrize("version", ["docker", "docker_26", "docker_28"])
def test_login_over_tls(
    start_daemon: StartDaemon, request: pytest.FixtureRequest, tmp_path: Path, version: str
) -> None:
    """Who logs in with a wrong password at a registry of this machine is shown the refusal."""
    docker: Docker = request.getfixturevalue(version)
    pair = make_pair(tmp_path)
    tls = {"NIXERY_TLS_CERT": pair.certificate, "NIXERY_TLS_KEY": pair.key}
    daemon = start_daemon(**users(tmp_path), **tls)
    refused = docker("login", "-u", "nobody", "-p", "wrong", daemon.host)
    assert refused.code != 0
    assert "401 Unauthorized" in refused.output
    assert "EOF" not in refused.output
