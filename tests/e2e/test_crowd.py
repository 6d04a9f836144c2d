"""Clients that take up room, and the others."""

import json
import resource
import socket
from contextlib import ExitStack

import psutil
import pytest

from tests.e2e.clients import Docker
from tests.e2e.conftest import StartDaemon
from tests.e2e.crowd import crowd
from tests.e2e.daemon import Daemon
from tests.waiting import wait_until

pytestmark = pytest.mark.undisturbed

HALF_OPEN, READERS = 500, 50


def largest_blob(daemon: Daemon, name: str) -> tuple[str, int]:
    """The path and the size of an image's largest layer."""
    layers = daemon.pull(name).json()["layers"]
    layer = max(layers, key=lambda layer: layer["size"])
    return f"/v2/{name}/blobs/{layer['digest']}", layer["size"]


@pytest.mark.real_nix
@pytest.mark.real_client
@pytest.mark.parametrize("room", [256, 2000], ids=["some make room", "all stay"])
def test_docker_pulls_through_a_crowd(start_daemon: StartDaemon, docker: Docker, room: int) -> None:
    """docker pulls a known image while hundreds of half-open connections and slow readers, all
    from its own address, are there; and all is over when they have left."""
    daemon = start_daemon(NIXERY_CLIENT_CONNECTIONS=str(room))
    blob, _ = largest_blob(daemon, "python3")
    image = f"{daemon.host}/hello"
    daemon.pull("hello")
    with crowd(daemon.port, HALF_OPEN, blob, READERS):
        docker.ok("pull", image)
        assert "Hello" in docker.run(image, "hello")
        docker.ok("rmi", "-f", image)
    wait_for_files(daemon, 0)
    assert json.loads(daemon.get("/v2/").body) == {}


def wait_for_files(daemon: Daemon, most: int) -> None:
    """Wait until the daemon has so few connections."""
    process = psutil.Process(daemon.process.pid)
    wait_until(lambda: len(connected(process)) <= most)


def connected(process: psutil.Process) -> list[object]:
    return [c for c in process.net_connections("tcp") if c.status == "ESTABLISHED"]


@pytest.mark.real_nix
def test_no_more_files(start_daemon: StartDaemon) -> None:
    """A daemon that may open no more files has newcomers wait, lives on, and recovers."""
    daemon = start_daemon()
    daemon.expected = "Too many open files"  # of what is done besides
    daemon.pull("hello")
    process = psutil.Process(daemon.process.pid)
    limits = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
    few = (process.num_fds() + 10, limits[1])
    resource.prlimit(process.pid, resource.RLIMIT_NOFILE, few)
    with ExitStack() as stack:
        for _ in range(100):
            stack.enter_context(socket.create_connection(("127.0.0.1", daemon.port)))
        wait_until(lambda: "EMFILE" in daemon.log)
    wait_for_files(daemon, 0)
    assert daemon.pull("hello").status == 200
