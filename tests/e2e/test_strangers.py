"""Sixty addresses that take as much as they may, and the others."""

from pathlib import Path

import attrs
import pytest

from tests.e2e.clients import Docker
from tests.e2e.conftest import StartDaemon
from tests.e2e.daemon import Daemon
from tests.e2e.strangers import (
    ALLOCATOR,
    BUSY,
    UNREAD,
    plan_for,
    proportional,
    served,
    strangers,
    write_history,
)
from tests.repository import Repository
from tests.waiting import wait_until

BUILDS = 2000
CONNECTIONS = 1000
"""Fewer than the strangers want."""
PULLS, MANIFESTS = 2, 20
MEGABYTES = 400


def metric(daemon: Daemon, name: str) -> float:
    lines = daemon.get("/metrics").body.decode().splitlines()
    return float(next(line for line in lines if line.startswith(f"{name} ")).split()[1])


@pytest.mark.undisturbed
@pytest.mark.real_nix
@pytest.mark.real_client
def test_docker_pulls_among_strangers(
    start_daemon: StartDaemon, docker: Docker, tmp_path: Path
) -> None:
    """docker pulls a known image, and a manifest is there whenever it is asked for, while strangers
    take all connections: they leave lists, blobs and events unread, search, look at pages, ask for
    new images and unknown tags, and guess passwords. The daemon's memory stays in bounds, and
    what they have not read is dropped when they have left."""
    write_history(tmp_path / "state", BUILDS)
    repository = Repository(tmp_path / "set")
    repository.commit("args: import <tests/test-pkgs> args")
    daemon = start_daemon(
        **ALLOCATOR,
        **served(repository, tmp_path),
        NIXERY_MAX_CONNECTIONS=str(CONNECTIONS),
    )
    layers = daemon.pull("python3").json()["layers"]
    layer = max(layers, key=lambda layer: layer["size"])
    image = f"{daemon.host}/hello"
    docker.ok("pull", image)
    docker.ok("rmi", "-f", image)
    wait_until(lambda: daemon.get("/packages?q=x").status == 200)
    plan = plan_for(daemon, ("git", "jq", "hello"), f"/v2/python3/blobs/{layer['digest']}")
    plan = attrs.evolve(plan, unread=5, busy=2)
    most = 0.0
    with strangers(daemon.port, plan) as there:
        for _ in range(PULLS):
            docker.ok("pull", image)
            docker.ok("rmi", "-f", image)
            most = max(most, proportional(daemon.process.pid))
        answers = [daemon.get("/v2/hello/manifests/latest").status for _ in range(MANIFESTS)]
        assert answers == [200] * MANIFESTS
        refused = daemon.get("/metrics").body
        there.leave()
    assert b'nixery_refused_total{reason="connections"}' in refused
    assert {answer.partition(" ")[0] for answer in there.counts} == {*UNREAD, *BUSY}
    assert most < MEGABYTES
    # The last is the one that asks.
    wait_until(lambda: metric(daemon, "nixery_connections") == 1)
    assert metric(daemon, "nixery_unread_bytes") == 0
