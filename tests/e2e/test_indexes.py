"""One name for every machine: the index of a name, and what clients make of it."""

import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from nixery.model.manifest import DOCKER_INDEX_TYPE, INDEX_TYPE, LEFT_OUT, MANIFEST_TYPE
from tests.e2e.clients import Docker, Podman, run
from tests.e2e.conftest import StartDaemon
from tests.e2e.daemon import Answer, Daemon, running
from tests.e2e.packages import PackageSet
from tests.waiting import wait_until

pytestmark = [pytest.mark.real_nix, pytest.mark.real_client]

PLATFORMS = ("linux/amd64", "linux/arm64")
ELF_MACHINES = {"linux/amd64": 62, "linux/arm64": 183}
TAKES_BOTH = f"{MANIFEST_TYPE}, {INDEX_TYPE}"
BOTH = {"NIXERY_PLATFORMS": ",".join(PLATFORMS)}
_PARTIAL = """
{{ system ? builtins.currentSystem, config ? {{ }}, overlays ? [ ] }}:
let usual = import {usual} {{ inherit system; }}; in
usual // (if system == "x86_64-linux" then {{ onlyhere = usual.hello; }} else {{ }})
"""


@pytest.fixture(scope="module")
def daemon(package_set: PackageSet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon for two platforms that the tests of this module share."""
    state = tmp_path_factory.mktemp("state")
    with running(state, {**package_set.environ, **BOTH}) as daemon:
        yield daemon


def index_of(daemon: Daemon, name: str, kind: str = INDEX_TYPE) -> Any:
    """The index of a name, which must be one."""
    answer = daemon.pull(name, accept=f"{MANIFEST_TYPE}, {kind}")
    assert (answer.status, answer.headers["Content-Type"]) == (200, kind), answer.body
    return answer.json()


def by_platform(index: Any) -> dict[str, str]:
    """The digests of an index's manifests."""
    return {
        f"{each['platform']['os']}/{each['platform']['architecture']}": each["digest"]
        for each in index["manifests"]
    }


def digest_of(answer: Answer) -> str:
    """The digest of a manifest that was answered."""
    return str(answer.headers["Docker-Content-Digest"])


def machine_of(program: bytes) -> int:
    """The machine that an ELF file is for."""
    assert program[:4] == b"\x7fELF"
    return int.from_bytes(program[18:20], "little")


def test_an_index_names_the_images_of_the_platforms(daemon: Daemon) -> None:
    """Its manifests are those of the platforms' own names, and are to be had by their digests."""
    found = by_platform(index_of(daemon, "hello"))
    assert tuple(found) == PLATFORMS
    for platform, digest in found.items():
        own = daemon.pull(f"{platform.removeprefix('linux/')}/hello", accept=TAKES_BOTH)
        assert digest_of(own) == digest
        assert daemon.pull("hello", digest).body == own.body
    assert by_platform(index_of(daemon, "hello", DOCKER_INDEX_TYPE)) == found
    plain = daemon.pull("hello")
    assert digest_of(plain) == found["linux/amd64"]
    assert plain.headers["Vary"] == "Accept"


def test_images_are_those_of_one_platform(daemon: Daemon, start_daemon: StartDaemon) -> None:
    """A registry that was given no platforms has the same image for its own machine."""
    if os.uname().machine != "x86_64":
        pytest.fail("these tests are for a machine with amd64")
    alone = start_daemon()
    found = by_platform(index_of(daemon, "jq"))
    assert digest_of(alone.pull("jq", accept=TAKES_BOTH)) == found["linux/amd64"]
    assert digest_of(alone.pull("arm64/jq", accept=TAKES_BOTH)) == found["linux/arm64"]


def test_the_page_of_an_index(daemon: Daemon) -> None:
    """The page of a name is that of its index, for each platform."""
    digest = digest_of(daemon.pull("hello", accept=TAKES_BOTH))
    for query in ("", "?platform=linux/amd64", "?platform=linux/arm64"):
        page = daemon.get(f"/images/hello{query}", Accept="text/html")
        assert page.status == 200
        assert f"hello@{digest}" in page.body.decode()


@pytest.mark.parametrize("platform", PLATFORMS)
def test_docker(daemon: Daemon, docker: Docker, tmp_path: Path, platform: str) -> None:
    """docker gets the programs of the platform that it asks for."""
    image = f"{daemon.host}/hello"
    docker.ok("pull", f"--platform={platform}", image)
    facts = json.loads(docker.ok("inspect", image))[0]
    assert f"linux/{facts['Architecture']}" == platform
    container = docker.ok("create", f"--platform={platform}", image, "hello").split()[-1]
    docker.ok("cp", "--follow-link", f"{container}:/bin/hello", str(tmp_path / "hello"))
    docker.ok("rm", container)
    assert machine_of((tmp_path / "hello").read_bytes()) == ELF_MACHINES[platform]


def test_docker_of_this_machine(daemon: Daemon, docker: Docker) -> None:
    """docker that asks for no platform gets an image that runs here, by name and by digest."""
    answer = daemon.pull("hello", accept=TAKES_BOTH)
    for image in (f"{daemon.host}/hello", f"{daemon.host}/hello@{digest_of(answer)}"):
        docker.ok("pull", image)
        assert "Hello" in docker.run(image, "hello")


@pytest.mark.parametrize("platform", PLATFORMS)
def test_podman(daemon: Daemon, podman: Podman, platform: str) -> None:
    """podman gets the image of the platform that it asks for."""
    image = f"{daemon.host}/hello"
    podman.ok("pull", "--tls-verify=false", f"--platform={platform}", image)
    facts = json.loads(podman.ok("inspect", image))[0]
    assert f"linux/{facts['Architecture']}" == platform


def test_skopeo(daemon: Daemon, tmp_path: Path) -> None:
    """skopeo copies one platform's image, or the index with all of them, unchanged."""
    image = f"docker://{daemon.host}/hello"
    found = by_platform(index_of(daemon, "hello"))
    copy = ["skopeo", "copy", "--src-tls-verify=false", "--preserve-digests"]
    for platform, digest in found.items():
        target = tmp_path / platform.replace("/", "-")
        architecture = f"--override-arch={platform.removeprefix('linux/')}"
        ran = run([*copy[:1], architecture, *copy[1:], image, f"dir:{target}"])
        assert ran.code == 0, ran.output
        assert (target / "manifest.json").read_bytes() == daemon.pull("hello", digest).body
    ran = run([*copy, "--all", image, f"oci:{tmp_path}/all:x"])
    assert ran.code == 0, ran.output
    top = json.loads((tmp_path / "all" / "index.json").read_bytes())["manifests"]
    assert top[0]["digest"] == digest_of(daemon.pull("hello", accept=TAKES_BOTH))


@pytest.mark.parametrize("platform", PLATFORMS)
def test_containerd(daemon: Daemon, docker: Docker, platform: str) -> None:
    """containerd loads the image of the platform that it asks for, and of no other."""
    image = f"{daemon.host}/jq:latest"
    pulled = docker.ctr("images", "pull", "--plain-http", f"--platform={platform}", image)
    assert pulled.code == 0, pulled.output
    loaded = docker.ctr("content", "ls", "-q").output.split()
    assert docker.ctr("images", "rm", "--sync", image).code == 0
    for each, digest in by_platform(index_of(daemon, "jq")).items():
        manifest = daemon.pull("jq", digest).json()
        blobs = {blob["digest"] for blob in (manifest["config"], *manifest["layers"])}
        assert (blobs <= set(loaded)) == (manifest["config"]["digest"] in loaded)
        assert (blobs <= set(loaded)) == (each == platform)


def test_a_platform_that_lacks_a_package(
    start_daemon: StartDaemon,
    package_set: PackageSet,
    docker: Docker,
    podman: Podman,
    tmp_path: Path,
) -> None:
    """It is left out, and its machines are told so; the annotation says why."""
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "default.nix").write_text(_PARTIAL.format(usual=package_set.folder))
    daemon = start_daemon(**BOTH, NIXERY_PKGS_PATH=str(tmp_path / "set"))
    index = index_of(daemon, "onlyhere")
    assert tuple(by_platform(index)) == PLATFORMS[:1]
    cause = "there is no package 'onlyhere' in this package set"
    assert index["annotations"][LEFT_OUT] == f"linux/arm64: {cause}"
    builds = daemon.nix_builds
    assert index_of(daemon, "onlyhere") == index
    assert daemon.nix_builds == builds
    image = f"{daemon.host}/onlyhere:latest"
    assert "no matching manifest" in docker("pull", "--platform=linux/arm64", image).output
    refused = docker.ctr("images", "pull", "--plain-http", "--platform=linux/arm64", image)
    assert "no match for platform" in refused.output
    none = "no image found in image index for architecture arm64"
    assert none in podman("pull", "--tls-verify=false", "--platform=linux/arm64", image).output
    inspect = ["skopeo", "--override-arch=arm64", "inspect", "--tls-verify=false"]
    assert none in run([*inspect, f"docker://{image}"]).output
    docker.ok("pull", image)
    assert daemon.pull("nowhere", accept=TAKES_BOTH).status == 404


def test_a_platform_that_is_not_built_here(
    start_daemon: StartDaemon, package_set: PackageSet, tmp_path: Path
) -> None:
    """While one platform fails and the other one is built, clients wait; then they get the latter's
    image, and the former is tried again in the background when its failure is forgotten."""
    slow = package_set.with_slow(tmp_path)
    daemon = start_daemon(packages=slow, **BOTH, NIXERY_HOLD="1", NIXERY_FAILURE_TTL="0")
    with ThreadPoolExecutor() as pool:
        pulling = [pool.submit(daemon.pull, "slow", accept=TAKES_BOTH) for _ in range(3)]
        slow.go_on()
        answers = [each.result() for each in pulling]
    assert {answer.headers["Content-Type"] for answer in answers} == {INDEX_TYPE}
    index = answers[0].json()
    assert tuple(by_platform(index)) == PLATFORMS[:1]
    assert "slow-" in index["annotations"][LEFT_OUT]
    builds = daemon.nix_builds
    assert index_of(daemon, "slow") == index
    wait_until(lambda: daemon.nix_builds > builds)


def test_an_index_costs_an_evaluation_for_each_platform(start_daemon: StartDaemon) -> None:
    """Nix is started once for each platform, and for a known index not at all."""
    daemon = start_daemon(**BOTH)
    index = index_of(daemon, "shell/jq")
    assert daemon.nix_builds == len(PLATFORMS)
    for name in ("shell/jq", "shell/amd64/jq/jq", "shell/arm64/jq"):
        assert daemon.pull(name).status == 200
    assert index_of(daemon, "shell/jq") == index
    assert daemon.nix_builds == len(PLATFORMS)
