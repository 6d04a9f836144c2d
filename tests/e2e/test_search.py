"""The package search of a running daemon, over the Debian-based set and packages that misbehave."""

from typing import Any

import pytest

from tests.e2e.conftest import StartDaemon
from tests.e2e.daemon import Daemon
from tests.waiting import wait_until

pytestmark = pytest.mark.real_nix


def search(daemon: Daemon, query: str) -> Any:
    """What a search finds, once there is an index."""
    path = f"/packages?q={query}"
    wait_until(lambda: daemon.get(path).status != 202)
    answer = daemon.get(path)
    assert answer.status == 200
    return answer.json()


def names(daemon: Daemon, query: str) -> list[str]:
    return [package["name"] for package in search(daemon, query)["packages"]]


def test_search(daemon: Daemon) -> None:
    """Packages are found by name, description and program, and those that fail hurt no other."""
    assert daemon.pull("ripgrep").status == 200  # its programs are in the store
    found = search(daemon, "ripgrep")
    assert found["packages"][0]["attribute"] == "ripgrep"
    assert found["packages"][0]["version"]
    assert found["whole"]
    assert found["source"] == "folder:test-pkgs"
    assert "ripgrep" in names(daemon, "rg")
    assert "hello" in names(daemon, "gnu+hello+example")
    assert names(daemon, "camelcase") == ["camelcasepackage"]
    assert names(daemon, "frobnicate-no-such-package") == []


def test_names_can_be_pulled(daemon: Daemon) -> None:
    """What a search gives as a name can be pulled, whatever its case."""
    [nested] = [name for name in names(daemon, "six") if name.endswith(".six")][:1]
    assert daemon.pull(nested).status == 200
    assert daemon.pull(names(daemon, "_1digit")[0]).status == 200
    assert sorted(names(daemon, "ambiguousPkg")) == ["ambiguouspkg--10", "ambiguouspkg--10-11-12"]


def test_restart(start_daemon: StartDaemon) -> None:
    """The index is there after a restart."""
    first = start_daemon()
    revision = search(first, "hello")["revision"]
    first.stop()
    second = start_daemon()
    assert search(second, "hello")["revision"] == revision
    assert "package search: " in first.log
    assert "package search: " not in second.log
