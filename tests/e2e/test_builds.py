"""One build per image: shared, patient, reproducible, and ended with the daemon."""

import os
import re
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from tests.e2e.clients import Docker, run
from tests.e2e.conftest import StartDaemon
from tests.e2e.daemon import Daemon
from tests.e2e.packages import PackageSet
from tests.waiting import wait_until, wait_until_gone

pytestmark = pytest.mark.real_nix


def digest(daemon: Daemon, name: str) -> str:
    answer = daemon.pull(name)
    assert answer.status == 200, answer.body
    return answer.headers["Docker-Content-Digest"]


def test_many_ask_one_builds(start_daemon: StartDaemon) -> None:
    """Eight clients that ask for a new image at once start Nix once and get one digest."""
    daemon = start_daemon()
    with ThreadPoolExecutor(8) as clients:
        digests = set(clients.map(lambda _: digest(daemon, "shell/git"), range(8)))
    assert len(digests) == 1
    assert daemon.nix_builds == 1


def test_a_known_image_starts_nothing(start_daemon: StartDaemon) -> None:
    """The second pull of an image starts no process."""
    daemon = start_daemon()
    digest(daemon, "hello")
    daemon.until_ready()
    before = {child.pid for child in daemon.children()}
    digest(daemon, "hello")
    assert daemon.nix_builds == 1
    assert {child.pid for child in daemon.children()} <= before


def test_contents_decide_the_digest(start_daemon: StartDaemon, tmp_path: Path) -> None:
    """A restart, a fresh storage, and another order of the packages give the same digest."""
    first = start_daemon()
    expected = digest(first, "git/jq/hello")
    first.stop()
    again = start_daemon()
    assert digest(again, "git/jq/hello") == expected
    assert again.nix_builds == first.nix_builds == 1
    fresh = start_daemon(state=tmp_path / "another")
    assert digest(fresh, "hello/git/jq/git") == expected


def test_workers_do_not_matter(start_daemon: StartDaemon, tmp_path: Path) -> None:
    """One packer on one processor makes the same bytes as several on all of them."""
    digests = set()
    for packers, processors in (("1", [0]), ("3", sorted(os.sched_getaffinity(0)))):
        daemon = start_daemon(state=tmp_path / packers, NIXERY_PACKERS=packers)
        psutil.Process(daemon.process.pid).cpu_affinity(processors)
        digests.add(digest(daemon, "git/python3"))
    assert len(digests) == 1


def test_only_what_is_new_is_packed(start_daemon: StartDaemon) -> None:
    """An image that shares part of its closure with another packs the rest alone."""
    daemon = start_daemon()
    one, two = _blobs(daemon, "shell"), _blobs(daemon, "shell/jq")
    packed = daemon.log.count(": packed ")
    assert packed == len(set(one[1:]) | set(two[1:]))
    assert len(set(one[1:]) & set(two[1:])) > len(one) // 2


def test_damage_is_noticed_and_mended(start_daemon: StartDaemon) -> None:
    """A blob that is missing, cut or altered is never served, and the next pull makes it anew."""
    daemon = start_daemon()
    expected = digest(daemon, "hello")
    config, *layers = _blobs(daemon, "hello")
    for damage in (_delete, _cut, _flip):
        for blob in (config, layers[0], layers[-1]):
            damage(daemon.storage / "layers" / blob.removeprefix("sha256:"))
            refused = daemon.get(f"/v2/hello/blobs/{blob}")
            assert refused.status == 404, (damage, refused)
            assert refused.json()["errors"][0]["code"] == "BLOB_UNKNOWN"
            assert digest(daemon, "hello") == expected
            assert daemon.get(f"/v2/hello/blobs/{blob}").status == 200


def _blobs(daemon: Daemon, name: str) -> list[str]:
    manifest = daemon.pull(name).json()
    return [blob["digest"] for blob in (manifest["config"], *manifest["layers"])]


def _delete(path: Path) -> None:
    path.unlink()


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_clients_may_leave(
    start_daemon: StartDaemon, package_set: PackageSet, tmp_path: Path
) -> None:
    """A client that leaves does not stop the build: the next one finds it done."""
    packages = package_set.with_slow(tmp_path)
    daemon = start_daemon(packages=packages)
    daemon.leave("/v2/slow/manifests/latest", lambda: "building slow-" in daemon.log)
    packages.go_on()
    wait_until(lambda: re.search("slow:latest .* done, as", daemon.log))
    assert digest(daemon, "slow")
    assert daemon.nix_builds == 1


@pytest.mark.real_client
def test_long_builds_reach_every_client(
    start_daemon: StartDaemon, package_set: PackageSet, docker: Docker, tmp_path: Path
) -> None:
    """A build that outlasts the hold reaches docker, skopeo, and a client that only follows
    redirects: each is sent to itself again and again, so that it is never without an answer for
    long."""
    packages = package_set.with_slow(tmp_path)
    daemon = start_daemon(packages=packages, NIXERY_HOLD="10")
    image = f"{daemon.host}/slow"

    with ThreadPoolExecutor(3) as clients:
        statuses = clients.submit(daemon.pull, "slow")
        pulled = clients.submit(docker, "pull", image)
        copied = clients.submit(
            run,
            [
                "skopeo",
                "copy",
                "--src-tls-verify=false",
                f"docker://{image}",
                f"dir:{tmp_path}/copy",
            ],
        )
        wait_until(lambda: daemon.log.count(": held, 307 ") >= 6)
        packages.go_on()
        assert statuses.result().status == 200
        assert pulled.result().code == 0, pulled.result().output
        assert copied.result().code == 0, copied.result().output
    assert daemon.nix_builds == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_end_leaves_nothing(
    start_daemon: StartDaemon, package_set: PackageSet, tmp_path: Path, number: signal.Signals
) -> None:
    """When the daemon is ended in the middle of a build, no process of it is left, and its storage
    holds whole objects alone, if need be after the next start."""
    daemon = start_daemon(packages=package_set.with_slow(tmp_path))
    digest(daemon, "hello")
    with ThreadPoolExecutor(1) as client:
        asking = client.submit(_status, daemon, "slow")
        wait_until(lambda: "building slow-" in daemon.log and len(daemon.children()) > 2)
        family = daemon.children()
        daemon.stop(number)
        wait_until_gone(family)
        assert asking.result() in (503, None)
    again = start_daemon()
    # The new daemon itself writes there for a moment, to find out whether the storage works.
    wait_until(lambda: not list((again.storage / "staging").glob("*/*")))
    wait_until(lambda: not list((again.state / "roots").iterdir()))
    _assert_whole(again.storage / "layers")
    assert digest(again, "hello")


def _status(daemon: Daemon, name: str) -> int | None:
    try:
        return daemon.pull(name).status
    except OSError:
        return None


def _assert_whole(folder: Path) -> None:
    for blob in folder.iterdir():
        summed = run(["sha256sum", str(blob)]).output.split()[0]
        assert summed == blob.name


def test_term_while_packing(start_daemon: StartDaemon) -> None:
    """A daemon that is stopped while it packs leaves no half-written object and no process."""
    daemon = start_daemon()
    with ThreadPoolExecutor(1) as client:
        asking = client.submit(_status, daemon, "hugefile")
        wait_until(lambda: "grouped into" in daemon.log)
        family = daemon.children()
        assert daemon.stop() == 0
        assert asking.result() in (200, 503, None)  # it may have been done just then
    wait_until_gone(family)
    _assert_whole(daemon.storage / "layers")
    assert not [path for path in (daemon.storage / "staging").rglob("*") if path.is_file()]


HUGE = """
{ huge = derivation {
  name = "huge"; system = builtins.currentSystem; builder = "/bin/sh";
  args = [ "-c" "/bin/head -c 400000000 /dev/zero > $out; exit 0" ];
}; }
"""


def test_garbage_collection(start_daemon: StartDaemon, tmp_path: Path) -> None:
    """What is being packed is safe from a garbage collection; what was packed is kept as long as
    the operator wants it, and less long if there is no room."""
    packages, store = tmp_path / "set", tmp_path / "store"
    packages.mkdir()
    (packages / "default.nix").write_text(HUGE)
    environ = {"NIXERY_PKGS_PATH": str(packages), "NIXERY_NIX_STORE": str(store)}
    daemon = start_daemon(**environ)

    def collect() -> None:
        options = ["--store", str(store), "--option", "build-users-group", ""]
        collected = run(["nix-store", *options, "--gc"])
        assert collected.code == 0, collected.output

    with ThreadPoolExecutor(1) as client:
        asking = client.submit(_status, daemon, "huge")
        wait_until(lambda: "grouped into" in daemon.log)
        collect()
        assert asking.result() == 200
    assert list((store / "nix" / "store").glob("*-huge"))
    wait_until(lambda: not list((daemon.state / "roots").iterdir()))
    collect()
    assert list((store / "nix" / "store").glob("*-huge"))
    assert daemon.stop() == 0
    start_daemon(**environ, NIXERY_NIX_MIN_FREE="900000T")
    wait_until(lambda: not list((store / "nix" / "store").glob("*-huge")))
    assert not list((daemon.state / "kept").iterdir())
