"""Images in a bucket that several daemons share: the usual emulators, and real clients."""

import hashlib
import re
import signal
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import attrs
import pytest

from tests.e2e.clients import Docker, Podman, run
from tests.e2e.conftest import StartDaemon
from tests.e2e.daemon import Answer, Daemon
from tests.e2e.packages import PackageSet
from tests.gcs.fake import FakeGcs, fake_gcs_server
from tests.s3.ceph import ceph_gateway
from tests.s3.moto import moto_server
from tests.s3.service import S3Service
from tests.waiting import wait_until

pytestmark = pytest.mark.real_nix

BIG = "git/python3"
"""An image of which some layers take more than one chunk."""


Service = FakeGcs | S3Service


@pytest.fixture(params=["gcs", "s3", pytest.param("ceph", marks=pytest.mark.ceph)])
def fake(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Service]:
    """A service with an empty bucket."""
    services: Any = {"gcs": fake_gcs_server, "s3": moto_server, "ceph": ceph_gateway}
    with services[request.param](tmp_path / "fake") as fake:
        yield fake


@pytest.fixture
def start(start_daemon: StartDaemon, fake: Service, tmp_path: Path) -> Callable[..., Daemon]:
    """Starts daemons that share nothing but the bucket: ``start(NAME, packages=…)``."""

    def start(name: str, **options: Any) -> Daemon:
        return start_daemon(state=tmp_path / name, **options, **fake.environ)

    return start


def good(answer: Answer) -> str:
    """The digest of the manifest in an answer."""
    assert answer.status == 200, answer.body
    return answer.headers["Docker-Content-Digest"]


def blobs(manifest: Answer) -> list[str]:
    document = manifest.json()
    return [blob["digest"] for blob in (document["config"], *document["layers"])]


def assert_whole(fake: Service) -> None:
    """All blobs have the content that they are named after, and nothing is unfinished."""
    for name in fake.names("layers/"):
        assert hashlib.sha256(fake.content(name)).hexdigest() == name.removeprefix("layers/")
    assert fake.names("staging/") == fake.names("leases/") == []


@pytest.mark.real_client
def test_clients_load_from_the_bucket(
    start: Callable[..., Daemon], fake: Service, docker: Docker, tmp_path: Path
) -> None:
    """docker and skopeo pull an image whose blobs they load from the bucket; it runs."""
    daemon = start("one")
    image = f"{daemon.host}/shell/{BIG}"
    output = docker.ok("pull", image)
    digest = good(daemon.pull(f"shell/{BIG}"))
    assert digest in output
    assert "git version" in docker.run(image, "git", "--version")
    copy = ["skopeo", "copy", "--src-tls-verify=false", f"docker://{image}", f"dir:{tmp_path}/copy"]
    copied = run(copy)
    assert copied.code == 0, copied.output
    manifest = (tmp_path / "copy" / "manifest.json").read_bytes()
    assert hashlib.sha256(manifest).hexdigest() == digest.removeprefix("sha256:")
    for blob in blobs(daemon.pull(f"shell/{BIG}")):
        answer = daemon.get(f"/v2/{BIG}/blobs/{blob}")
        hexa = blob.removeprefix("sha256:")
        location = answer.headers["Location"]
        expected = fake.where(f"layers/{hexa}")
        assert (answer.status, location.partition("?")[0]) == (307, expected)
        with urllib.request.urlopen(location) as loaded:
            assert hashlib.sha256(loaded.read()).hexdigest() == hexa
    assert_whole(fake)
    assert not (daemon.storage / "layers").exists()


@pytest.mark.real_client
def test_clients_load_through_the_daemon(
    start: Callable[..., Daemon], fake: Service, docker: Docker, podman: Podman
) -> None:
    """Where clients are not to be sent to the bucket, they get its blobs from the daemon."""
    daemon = start("one", NIXERY_STORAGE_REDIRECT="off")
    image = f"{daemon.host}/shell/git"
    docker.ok("pull", image)
    assert "git version" in docker.run(image, "git", "--version")
    docker.ok("image", "rm", image)
    podman.ok("pull", "--tls-verify=false", image)
    for blob in blobs(daemon.pull("shell/git")):
        answer = daemon.get(f"/v2/git/blobs/{blob}")
        assert (answer.status, f"sha256:{hashlib.sha256(answer.body).hexdigest()}") == (200, blob)
        part = daemon.get(f"/v2/git/blobs/{blob}", Range="bytes=5-9")
        assert (part.status, part.body) == (206, answer.body[5:10])
    assert_whole(fake)


@pytest.mark.real_client
def test_another_daemon_serves_the_image(
    start: Callable[..., Daemon], fake: Service, docker: Docker
) -> None:
    """A daemon with a state of its own serves what another one made, without Nix; also after the
    other's end."""
    first = start("one")
    expected = good(first.pull("hello"))
    first.stop()
    written = fake.names()
    second = start("two")
    assert expected in docker.ok("pull", f"{second.host}/hello")
    assert "Hello" in docker.run(f"{second.host}/hello", "hello")
    assert (first.nix_builds, second.nix_builds) == (1, 0)
    assert " packed " not in second.log
    assert fake.names() == written


def test_two_are_asked_at_once(
    start: Callable[..., Daemon], fake: Service, package_set: PackageSet, tmp_path: Path
) -> None:
    """Of two daemons that are asked for a new image at once, one makes it; both serve it."""
    packages = package_set.with_slow(tmp_path)
    daemons = [start(name, packages=packages) for name in ("one", "two")]
    with ThreadPoolExecutor(4) as clients:
        asked = [clients.submit(one.pull, f"slow/{BIG}") for one in daemons * 2]
        wait_until(lambda: [one.requests_running() for one in daemons] == [2, 2])
        packages.go_on()
        digests = {good(one.result()) for one in asked}
    assert len(digests) == 1
    assert sum(one.nix_builds for one in daemons) == 1
    assert sorted(" packed " in one.log for one in daemons) == [False, True]
    assert_whole(fake)


def test_the_maker_is_killed(
    start: Callable[..., Daemon], fake: Service, package_set: PackageSet, tmp_path: Path
) -> None:
    """When the daemon that makes an image is killed halfway, one that waits for it makes it."""
    packages = package_set.with_slow(tmp_path)
    first = start("one", packages=packages)
    second = start("two", packages=packages)
    with ThreadPoolExecutor(2) as clients:
        lost = clients.submit(first.pull, f"slow/{BIG}")
        wait_until(lambda: first.nix_builds == 1)
        found = clients.submit(second.pull, f"slow/{BIG}")
        wait_until(lambda: "building slow-" in first.log)
        assert second.nix_builds == 0
        first.stop(signal.SIGKILL)
        _assert_lost(lost)
        packages.go_on()
        digest = good(found.result())
    assert second.nix_builds == 1
    assert_whole(fake)
    third = start("three", packages=packages)
    assert good(third.pull(f"slow/{BIG}")) == digest
    assert third.nix_builds == 0


def test_the_maker_is_killed_while_it_packs(start: Callable[..., Daemon], fake: Service) -> None:
    """When the daemon is killed in the middle of an upload, another one makes the image; it
    takes over the layers that were done, and no blob is there that isn't whole."""
    first, second = start("one"), start("two")
    with ThreadPoolExecutor(2) as clients:
        lost = clients.submit(first.pull, "hugefile")
        # A layer is stored, and known by its key; readiness is tried with a key of zeros.
        wait_until(lambda: any(name.strip("0") != "builds/" for name in fake.names("builds/")))
        found = clients.submit(second.pull, "hugefile")
        first.stop(signal.SIGKILL)
        _assert_lost(lost)
        answer = found.result()
    good(answer)
    assert "packed huge-file" not in first.log
    known = re.search(r"grouped into \d+ layers, (\d+) of them known", second.log)
    assert known is not None
    assert int(known[1]) > 0
    assert second.log.count(" packed ") == len(blobs(answer)) - 1 - int(known[1])
    assert_whole(fake)


def test_damage_in_the_bucket(start: Callable[..., Daemon], fake: Service) -> None:
    """A blob that vanished from the bucket, or has other bytes, is made anew by the next pull."""
    expected = good(start("one").pull("hello"))
    layer = blobs(start("two").pull("hello"))[-1]
    name = f"layers/{layer.removeprefix('sha256:')}"
    for number, content in enumerate((None, b"other")):
        fake.overwrite(name, content)
        daemon = start(f"after-{number}")
        assert good(daemon.pull("hello")) == expected
        assert daemon.get(f"/v2/hello/blobs/{layer}").status == 307
        assert_whole(fake)


def test_no_such_bucket(start_daemon: StartDaemon, fake: Service) -> None:
    """A daemon whose bucket isn't there says so, and ends."""
    with pytest.raises(AssertionError, match="there is no bucket 'another-bucket'"):
        start_daemon(**attrs.evolve(fake, bucket="another-bucket").environ)


def _assert_lost(asked: "Future[Answer]") -> None:
    """The connection was lost, or an error came."""
    try:
        assert asked.result().status >= 500
    except OSError:
        return
