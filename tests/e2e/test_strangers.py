"""Sixty addresses that take as much as they may, and the others."""

import time
from pathlib import Path

import attrs
import pytest

from tests.e2e.clients import Docker
from tests.e2e.conftest import StartDaemon
from tests.e2e.daemon import wait_until
from tests.e2e.strangers import ALLOCATOR, plan_for, proportional, strangers, write_history

BUILDS, SECONDS = 2000, 8
MEGABYTES, LEFT = 400, 0.5


@pytest.mark.real_nix
@pytest.mark.real_client
def test_docker_pulls_among_strangers(
    start_daemon: StartDaemon, docker: Docker, tmp_path: Path
) -> None:
    """docker pulls a known image while strangers leave lists, blobs and events unread, search,
    look at pages, ask for new images and unknown tags; the daemon's memory stays in bounds, and
    is given back when they have left."""
    write_history(tmp_path / "state", BUILDS)
    daemon = start_daemon(state=tmp_path / "state", **ALLOCATOR)
    layers = daemon.pull("python3").json()["layers"]
    layer = max(layers, key=lambda layer: layer["size"])
    image = f"{daemon.host}/hello"
    docker.ok("pull", image)
    docker.ok("rmi", "-f", image)
    wait_until(lambda: daemon.get("/packages?q=x").status == 200)
    plan = plan_for(daemon, ("git", "jq", "hello"), f"/v2/python3/blobs/{layer['digest']}")
    plan = attrs.evolve(plan, unread=15, busy=3)  # all of them fit in the default's connections
    pid = daemon.process.pid
    before = most = proportional(pid)
    with strangers(daemon.port, plan) as there:
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            docker.ok("pull", image)
            docker.ok("rmi", "-f", image)
            most = max(most, proportional(pid))
        there.leave()
    kinds = {answer.partition(" ")[0] for answer in there.counts}
    assert kinds >= {"blob", "events", "image", "tag", "password"}  # others wait for their turn
    assert len(daemon.get("/builds?n=1000").json()) == 1000
    assert most < MEGABYTES
    # Some of it is for what was done for the first time: threads, caches.
    wait_until(lambda: proportional(pid) <= before + LEFT * (most - before), limit=120)
