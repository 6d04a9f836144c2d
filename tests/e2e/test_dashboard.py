"""The dashboard's queries, answered by a real Prometheus that watches a real daemon."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
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

NOTHING_YET = {"Certificate expires in", "Starts"}
"""What a daemon without TLS, which was not started again, has nothing to show for."""


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
    """After a pull of a new image and another of a known one, every query has an answer."""
    daemon = start_daemon(NIXERY_WORKERS="2")
    with prometheus(daemon.port, tmp_path) as address:
        wait_until(lambda: bool(answer(address, 'nixery_info{job="nixery"}')))
        for _ in range(2):
            assert daemon.pull("hello").status == 200
        digest = json.loads(daemon.pull("hello").body)["config"]["digest"]
        daemon.get(f"/v2/hello/blobs/{digest}")
        left = {query: title for title, query in queries() if title not in NOTHING_YET}

        def all_shown() -> bool:
            for query in list(left):
                if answer(address, filled(query, interval="1m")):
                    del left[query]
            return not left

        wait_until(all_shown)
