"""The dashboard's queries, answered by a real Prometheus that watches a real daemon."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest
import yaml

from tests.dashboards import filled, queries
from tests.e2e.conftest import StartDaemon
from tests.ports import free_port
from tests.waiting import HUNG, wait_until

pytestmark = [pytest.mark.real_nix, pytest.mark.real_client]

NOTHING_YET = {"Certificate expires in", "Gave way", "Refused", "Starts"}
"""What a daemon has nothing to show for without TLS, without more to do than it can, and as long as
it is not started again."""


@contextmanager
def prometheus(watched: int, folder: Path) -> Iterator[str]:
    """A Prometheus that watches a port, for the length of a block; its address."""
    configuration = folder / "prometheus.yml"
    jobs = [{"job_name": "nixery", "static_configs": [{"targets": [f"127.0.0.1:{watched}"]}]}]
    told = {"global": {"scrape_interval": "1s"}, "scrape_configs": jobs}
    configuration.write_text(yaml.safe_dump(told))
    address = f"127.0.0.1:{free_port()}"
    process = subprocess.Popen(
        [
            "prometheus",
            f"--config.file={configuration}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address={address}",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield f"http://{address}"
    finally:
        process.terminate()
        process.wait(timeout=HUNG)


def answer(address: str, query: str) -> list[Any]:
    """The values that a query has now."""
    try:
        with urlopen(f"{address}/api/v1/query?{urlencode({'query': query})}", timeout=HUNG) as said:
            result: list[Any] = json.load(said)["data"]["result"]
    except OSError:
        return []
    return [each for each in result if each["value"][1] != "NaN"]


def test_every_panel_shows_something(start_daemon: StartDaemon, tmp_path: Path) -> None:
    """After pulls of new images and of known ones, every query has an answer."""
    daemon = start_daemon(NIXERY_WORKERS="2")
    with prometheus(daemon.port, tmp_path) as address:
        # A rate takes a number that has changed from one look of Prometheus to the next.
        for number, name in enumerate(("hello", "shell/hello", "cacert/hello")):
            daemon.get("/v2/")
            for _ in range(3):
                answered = daemon.pull(name)
                assert answered.status == 200
            digest = answered.json()["config"]["digest"]
            assert daemon.get(f"/v2/{name}/blobs/{digest}").status == 200
            wait_until(
                partial(answer, address, f'nixery_builds_total{{outcome="done"}} > {number}')
            )
        left = [
            (title, query)
            for title, query in queries()
            if title not in NOTHING_YET and not answer(address, filled(query, interval="5m"))
        ]
        assert left == []
