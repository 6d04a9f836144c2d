"""The daemon's end, and the next one's beginning."""

import contextlib
import http.client
import os
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from hashlib import sha256
from pathlib import Path

import pytest

from tests.e2e.clients import run
from tests.e2e.conftest import StartDaemon
from tests.e2e.daemon import ACCEPT, Daemon, running
from tests.e2e.packages import PackageSet
from tests.waiting import HUNG, wait_until, wait_until_gone

pytestmark = pytest.mark.real_nix

IMAGES = ("hello", "jq", "curl", "shell/git", "shell/git/htop")


@pytest.fixture
def held() -> Iterator[socket.socket]:
    """A socket that outlives daemons, as systemd holds one."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


def slowly(daemon: Daemon, path: str) -> tuple[http.client.HTTPResponse, bytes]:
    """Begin to load a blob; so much is still to come that it can't lie in buffers."""
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=HUNG)
    connection.request("GET", path)
    answer = connection.getresponse()
    return answer, answer.read(1000)


def huge_blob(daemon: Daemon) -> str:
    manifest = daemon.pull("hugefile").json()
    layer = max(manifest["layers"], key=lambda layer: layer["size"])
    return f"/v2/hugefile/blobs/{layer['digest']}"


def wait_until_refused(daemon: Daemon) -> None:
    def is_refused() -> bool:
        try:
            socket.create_connection(("127.0.0.1", daemon.port), timeout=HUNG).close()
        except OSError:
            return True
        return False

    wait_until(is_refused, "it still listens")


def test_transfers_are_finished(start_daemon: StartDaemon) -> None:
    """SIGTERM: no more connections are taken, what is being sent is sent to its end, and the
    daemon ends with exit code 0."""
    daemon = start_daemon(NIXERY_DRAIN="3600")
    path = huge_blob(daemon)
    answer, begin = slowly(daemon, path)
    daemon.process.send_signal(signal.SIGTERM)
    wait_until_refused(daemon)
    assert daemon.process.poll() is None
    content = begin + answer.read()
    assert f"sha256:{sha256(content).hexdigest()}" == path.rpartition("/")[2]
    assert daemon.process.wait(timeout=HUNG) == 0


def test_requests_on_their_way_are_answered(start_daemon: StartDaemon) -> None:
    """Who was connected when SIGTERM came, and asks only then, is answered; a connection that was
    used before may be closed, which clients know how to take."""
    daemon = start_daemon(NIXERY_DRAIN="3600")
    expected = daemon.pull("hello")
    asking = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=HUNG)
    asking.connect()
    assert daemon.get("/v2/").status == 200  # so that the connection before was taken, too
    daemon.process.send_signal(signal.SIGTERM)
    wait_until_refused(daemon)
    asking.request("GET", "/v2/hello/manifests/latest", headers={"Accept": ACCEPT})
    answer = asking.getresponse()
    assert (answer.status, answer.getheader("Connection")) == (200, "close")
    assert answer.read() == expected.body
    assert daemon.process.wait(timeout=HUNG) == 0


@pytest.mark.parametrize("drain", ["0.5", "3600"])
def test_transfers_that_take_too_long(start_daemon: StartDaemon, drain: str) -> None:
    """A client that does not come to an end is cut when the time is up, or at a second signal;
    that is no failure either."""
    daemon = start_daemon(NIXERY_DRAIN=drain)
    answer, _ = slowly(daemon, huge_blob(daemon))
    daemon.process.send_signal(signal.SIGTERM)
    wait_until_refused(daemon)
    if drain == "3600":
        daemon.process.send_signal(signal.SIGTERM)
    assert daemon.process.wait(timeout=HUNG) == 0
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        answer.read()


@pytest.mark.parametrize("handover", ["off", "on"])
def test_held_requests_are_let_go(
    start_daemon: StartDaemon, package_set: PackageSet, tmp_path: Path, handover: str
) -> None:
    """Who waits for a build when the daemon is stopped is told so at once, or is sent on to
    itself where another instance answers; who follows the build hears of its end. The daemon
    waits neither for them nor for the build."""
    packages = package_set.with_slow(tmp_path)
    patient = {"NIXERY_DRAIN": "3600", "NIXERY_HOLD": "3600"}
    daemon = start_daemon(packages=packages, NIXERY_HANDOVER=handover, **patient)
    with ThreadPoolExecutor(4) as clients:
        path = "/v2/slow/manifests/latest"
        held = [clients.submit(daemon.get, path) for _ in range(3)]
        wait_until(lambda: "building slow-" in daemon.log and daemon.requests_running() == 3)
        build = daemon.get("/builds").json()[0]["id"]
        following = clients.submit(daemon.get, f"/builds/{build}/log")
        wait_until(lambda: daemon.requests_running() == 4)
        family = daemon.children()
        assert daemon.stop() == 0
        for answer in (each.result() for each in held):
            assert answer.headers["Connection"] == "close"
            if handover == "on":
                assert (answer.status, answer.headers["Location"]) == (307, f"{path}?nixery-hop=1")
            else:
                assert (answer.status, answer.headers["Retry-After"]) == (503, "10")
                assert "is shutting down" in answer.reason
        assert b"this registry is shutting down" in following.result().body
    wait_until_gone(family)


def pull_whole(daemon: Daemon, name: str) -> str:
    """Pull an image as clients do, every blob of it, and say what its digest is."""
    answer = daemon.pull(name)
    assert answer.status == 200, answer
    manifest = answer.json()
    for blob in [manifest["config"], *manifest["layers"]]:
        body = daemon.get(f"/v2/{name}/blobs/{blob['digest']}").body
        assert f"sha256:{sha256(body).hexdigest()}" == blob["digest"]
    return answer.headers["Docker-Content-Digest"]


def test_no_pull_is_lost(package_set: PackageSet, tmp_path: Path, held: socket.socket) -> None:
    """Daemons come and go behind a socket that systemd holds: all of twenty pulls succeed, those
    that wait for a build too."""
    packages = package_set.with_slow(tmp_path)
    environ = {**packages.environ, "NIXERY_DRAIN": "3600"}
    copies = [tmp_path / f"copy-{number}" for number in range(3)]
    pulls: list[Future[str]] = []
    with ThreadPoolExecutor(20) as clients, contextlib.ExitStack() as stack:
        for restart in range(3):
            daemon = stack.enter_context(running(tmp_path / "state", environ, held))
            for number in range(5):
                pulls.append(clients.submit(pull_whole, daemon, IMAGES[number]))
            copy = ["skopeo", "copy", "--src-tls-verify=false", f"docker://{daemon.host}/slow"]
            pulls.append(clients.submit(_output, [*copy, f"dir:{copies[restart]}"]))
            if restart < 2:
                wait_until(partial(_is_busy, daemon))
                assert daemon.stop() == 0
        packages.go_on()
        pulls += [clients.submit(pull_whole, daemon, "slow") for _ in range(2)]
        results = [pull.result() for pull in pulls]
    assert len(results) == 20
    assert len({results[number] for number in (0, 6, 12)}) == 1


def _output(command: list[str]) -> str:
    done = run(command)
    assert done.code == 0, done.output
    return done.output


def _is_busy(daemon: Daemon) -> bool:
    return "building slow-" in daemon.log or daemon.nix_builds > 3


def test_interrupted_at_a_terminal(start_daemon: StartDaemon) -> None:
    """Ctrl-C ends it like a service manager does."""
    daemon = start_daemon()
    family = daemon.children()
    assert daemon.stop(signal.SIGINT) == 0
    wait_until_gone(family)


def test_reloading_without_files(start_daemon: StartDaemon) -> None:
    """SIGHUP does not end a daemon that has nothing to read again."""
    daemon = start_daemon()
    daemon.process.send_signal(signal.SIGHUP)
    assert daemon.get("/v2/").status == 200
    assert daemon.process.poll() is None


def test_a_thread_that_a_disk_keeps_waiting(start_daemon: StartDaemon, tmp_path: Path) -> None:
    """A daemon whose thread never comes back from a file ends all the same, and says why."""
    table = tmp_path / "popularity.json"
    table.write_text("{}")
    daemon = start_daemon(NIX_POPULARITY_URL=f"file://{table}")
    table.unlink()
    os.mkfifo(table)
    daemon.process.send_signal(signal.SIGHUP)
    writer = None
    while writer is None:
        assert daemon.process.poll() is None
        with contextlib.suppress(OSError):  # nobody reads yet
            writer = os.open(table, os.O_WRONLY | os.O_NONBLOCK)
    try:
        daemon.process.send_signal(signal.SIGTERM)
        assert daemon.process.wait(timeout=HUNG) == 1
    finally:
        os.close(writer)
    assert "threads do not end" in daemon.log


def test_signals_all_at_once(start_daemon: StartDaemon) -> None:
    """A daemon that is told several times to end does so once, and well."""
    daemon = start_daemon()
    for number in (signal.SIGSTOP, signal.SIGTERM, signal.SIGINT, signal.SIGCONT):
        daemon.process.send_signal(number)
    assert daemon.process.wait(timeout=HUNG) == 0
    assert not daemon.failures
