"""Builds that are watched while they run, and found again."""

import json
import re
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import StartDaemon
from tests.e2e.daemon import Daemon
from tests.e2e.packages import PackageSet
from tests.waiting import HUNG, wait_until

pytestmark = pytest.mark.real_nix


def builds(daemon: Daemon) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = daemon.get("/builds").json()
    return listed


def test_a_log_while_it_runs(
    start_daemon: StartDaemon, package_set: PackageSet, tmp_path: Path
) -> None:
    """A client that is sent on is told where to watch its build; ``curl -N`` shows what a package
    prints as it prints it, and ends with the build."""
    packages = package_set.with_slow(tmp_path)
    daemon = start_daemon(packages=packages, NIXERY_HOLD="0.5")
    path = "/v2/slow/manifests/latest"
    while "Link" not in (redirect := daemon.get(path)).headers:
        assert redirect.status == 307  # before the build has begun
    assert redirect.status == 307
    link = re.fullmatch(r'<(/builds/[0-9a-f]+)>; rel="monitor"', redirect.headers["Link"])
    assert link is not None
    url = f"http://{daemon.host}{link[1]}/log"
    curl = subprocess.Popen(["curl", "-sN", url], stdout=subprocess.PIPE, text=True)
    assert curl.stdout is not None
    printed = []
    for line in curl.stdout:
        printed.append(line)
        if "step 2" in line:
            assert daemon.get(link[1]).json()["state"] == "running"
            packages.go_on()
    assert curl.wait(timeout=HUNG) == 0
    *steps, last = [line.partition("> ")[2] for line in printed if line.startswith("slow-")]
    assert steps == [f"step {number}\n" for number in range(1, len(steps) + 1)]
    assert last == "last step\n"
    assert "done, as sha256:" in printed[-1]
    assert daemon.pull("slow").status == 200


def test_a_failure_says_where_to_read(start_daemon: StartDaemon) -> None:
    """A refusal names the address of its build, where the derivation that failed, its log and the
    cause are."""
    daemon = start_daemon()
    refused = daemon.pull("broken")
    message = refused.json()["errors"][0]["message"]
    address = re.search(r"see http://127\.0\.0\.1:\d+(/builds/[0-9a-f]+);", message)
    assert address is not None, message
    summary = daemon.get(address[1]).json()
    assert summary["state"] == "failed"
    assert "broken-1.0 failed to build" in summary["error"]
    assert [d["name"] for d in summary["derivations"] if d["state"] == "failed"] == ["broken-1.0"]
    assert b"frobnicate" in daemon.get(address[1] + "/log").body


def test_a_daemon_that_is_killed(
    start_daemon: StartDaemon, package_set: PackageSet, tmp_path: Path
) -> None:
    """After a kill, finished builds are as they were, and the one that ran was interrupted; its
    log is there as far as it went."""
    packages = package_set.with_slow(tmp_path)
    daemon = start_daemon(state=tmp_path / "x", packages=packages, NIXERY_HOLD="0.5")
    assert daemon.pull("hello").status == 200
    with ThreadPoolExecutor(1) as client:
        client.submit(daemon.get, "/v2/slow/manifests/latest").result()
    wait_until(lambda: [b["state"] for b in builds(daemon)] == ["running", "done"])
    slow = builds(daemon)[0]
    wait_until(lambda: "step 3" in _events_on_disk(daemon, slow["id"]))
    daemon.stop(signal.SIGKILL)
    again = start_daemon(state=tmp_path / "x", packages=packages)
    interrupted, done = builds(again)
    assert (interrupted["id"], interrupted["state"]) == (slow["id"], "failed")
    assert "interrupted" in interrupted["error"]
    assert (done["name"], done["state"]) == ("hello", "done")
    lines = again.get(f"/builds/{slow['id']}/events", Accept="application/x-ndjson").body
    events = [json.loads(line) for line in lines.splitlines()]
    assert {"step 1", "step 2", "step 3"} <= {event.get("line") for event in events}
    assert events[-1]["type"] == "failed"


def _events_on_disk(daemon: Daemon, id: str) -> str:
    path = daemon.state / "history" / f"{id}.events.zst"
    if not path.exists():
        return ""
    return subprocess.run(["zstd", "-dc", path], capture_output=True, text=True).stdout
