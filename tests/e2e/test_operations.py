"""How the daemon is, as those who watch it ask."""

import json
import shutil
import urllib.request
from functools import partial
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.conftest import StartDaemon
from tests.e2e.daemon import Daemon
from tests.ports import free_port
from tests.waiting import wait_until

pytestmark = pytest.mark.real_nix


def metrics(daemon: Daemon) -> dict[tuple[str, ...], float]:
    text = daemon.get("/metrics", Accept="text/plain").body.decode()
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def checks(daemon: Daemon) -> dict[str, str]:
    """What is not well, and why."""
    answer = daemon.get("/readyz", Accept="application/json")
    document = answer.json()
    assert (answer.status == 200) == document["ready"]
    return {name: check["remark"] for name, check in document["checks"].items() if not check["ok"]}


def test_a_pull_is_counted(start_daemon: StartDaemon) -> None:
    """Before, during and after a pull, the daemon says how it is, and what it did."""
    daemon = start_daemon()
    assert daemon.get("/healthz").body == b"ok\n"
    wait_until(lambda: checks(daemon) == {})
    assert daemon.pull("hello").status == 200
    assert daemon.pull("hello").status == 200
    assert daemon.pull("nosuchthing").status == 404
    found = metrics(daemon)
    assert found["nixery_pulls_total", "tag", "made"] == 1
    assert found["nixery_pulls_total", "tag", "known"] == 1
    assert found["nixery_pulls_total", "tag", "not found"] == 1
    assert found["nixery_builds_total", "done"] == 1
    assert found["nixery_builds_total", "UnknownPackage"] == 1
    assert found["nixery_layers_total", "made"] > 1
    assert found["nixery_packed_bytes_total",] > 1000
    assert found["nixery_manifest_lookups_total", "memory"] == 1
    assert found["nixery_build_seconds_count", "nix"] == 2
    assert found["nixery_disk_free_bytes", "storage"] > 0
    assert found["nixery_builds_running",] == 0


def test_known_answers(start_daemon: StartDaemon) -> None:
    """What is pulled again is answered from memory, until something of it is lost."""
    daemon = start_daemon()
    first = daemon.pull("hello")
    config = f"/v2/hello/blobs/{first.json()['config']['digest']}"
    for _ in range(3):
        assert daemon.pull("hello").body == first.body
        assert daemon.get(config).status == 200
    assert daemon.metric("nixery_known_answers_total") >= 2
    shutil.rmtree(daemon.storage / "layers")
    assert daemon.get(config).status == 404
    assert daemon.pull("hello").body == first.body
    assert daemon.get(config).status == 200


def test_one_line_for_each_pull(start_daemon: StartDaemon) -> None:
    """Every pull is one line of the log, with the request's ID, which is in the answer, and so is
    the end of every build, with the ID of the request that it was begun for."""
    daemon = start_daemon(NIXERY_LOG_FORMAT="json")
    for name, outcome in (("hello", "made"), ("hello", "known"), ("nosuchthing", "not found")):
        answer = daemon.pull(name)
        id = answer.headers["X-Request-Id"]
        # Lines of pulls are written a moment later, and in order.
        wait_until(partial(_tells_of, daemon, id))
        lines = [json.loads(line) for line in daemon.log.splitlines()]
        ours = [each for each in lines if each.get("request") == id]
        (line,) = [each for each in ours if "status" in each]
        assert (line["image"], line["outcome"]) == (f"{name}:latest", outcome)
        assert line["status"] == answer.status
        ends = [each for each in ours if "outcome" in each and "status" not in each]
        assert [each["build"] for each in ends] == [line["build"]] * (outcome != "known")


def _tells_of(daemon: Daemon, id: str) -> bool:
    """Whether the log has the line of a pull."""
    return f'"request": "{id}", "method"' in daemon.log


def test_an_endpoint_of_its_own(start_daemon: StartDaemon) -> None:
    """With an endpoint for it, how the daemon is can't be asked where images are pulled."""
    port = free_port()
    daemon = start_daemon(NIXERY_OPERATIONS_LISTEN=f"tcp:{port}:interface=127.0.0.1")
    # What a start finds out takes a moment.
    daemon.until_ready()
    for path in ("/healthz", "/readyz", "/metrics"):
        assert daemon.get(path).status == 404
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}") as answer:
            assert answer.status == 200


def test_probes_need_no_user(start_daemon: StartDaemon, tmp_path: Path) -> None:
    """Where users are asked for, probes are not; metrics are for users."""
    tokens = tmp_path / "tokens"
    tokens.write_text(f"ci:{'0' * 64}\n")
    rules = tmp_path / "rules"
    rules.write_text("[users.ci]\n")
    daemon = start_daemon(NIXERY_TOKENS=str(tokens), NIXERY_RULES=str(rules))
    assert daemon.get("/v2/").status == 401
    assert daemon.get("/healthz").status == 200
    wait_until(lambda: daemon.get("/readyz").status == 200)
    assert daemon.get("/metrics").status == 401


@pytest.mark.parametrize("broken", ["nix", "source", "storage"])
def test_not_ready(start_daemon: StartDaemon, tmp_path: Path, broken: str) -> None:
    """What is broken is named, and what was known is served all the same."""
    packages = tmp_path / "set"
    packages.mkdir()
    (packages / "default.nix").write_text(
        '{ x = derivation { name = "x"; system = builtins.currentSystem; builder = "/bin/sh";'
        ' args = [ "-c" "echo > $out" ]; }; }'
    )
    daemon = start_daemon(NIXERY_PKGS_PATH=str(packages))
    known = daemon.pull("x")
    assert known.status == 200
    wait_until(lambda: checks(daemon) == {})
    if broken == "nix":
        shim = daemon.shims / "nix-store"
        shim.write_text("#!/bin/sh\necho the database is gone >&2; exit 1\n")
        shim.chmod(0o755)
    elif broken == "source":
        shutil.rmtree(packages)
    else:
        shutil.rmtree(daemon.storage / "builds")
        (daemon.storage / "builds").touch()
    wait_until(lambda: set(checks(daemon)) == {broken})
    if broken == "nix":
        assert "the database is gone" in checks(daemon)["nix"]
    digest = known.headers["Docker-Content-Digest"]
    assert daemon.pull("x", digest).body == known.body
