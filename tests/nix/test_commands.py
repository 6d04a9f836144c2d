"""Nix's commands: which store they work on."""

import socket
from pathlib import Path

from nixery.nix.commands import find_store


def test_what_was_named_counts_first(tmp_path: Path) -> None:
    """A folder that the operator named is taken, whatever else there is."""
    (tmp_path / "store").mkdir()
    environ = {"NIX_REMOTE": "daemon"}
    assert find_store("/own", "/state", environ, str(tmp_path)) == "/own"


def test_the_machines_store(tmp_path: Path) -> None:
    """The machine's store is taken if it can be written to, or a daemon does it, or Nix was told
    of another one."""
    machine = str(tmp_path)
    assert find_store(None, "/state", {}, machine) == "/state/nix"
    assert find_store(None, "/state", {"NIX_REMOTE": "daemon"}, machine) is None
    (tmp_path / "store").mkdir()
    assert find_store(None, "/state", {}, machine) is None


def test_a_daemon(tmp_path: Path) -> None:
    """A daemon's socket is enough: it writes to the store for others."""
    folder = tmp_path / "var" / "nix" / "daemon-socket"
    folder.mkdir(parents=True)
    assert find_store(None, "/state", {}, str(tmp_path)) == "/state/nix"
    with socket.socket(socket.AF_UNIX) as daemon:
        daemon.bind(str(folder / "socket"))
        assert find_store(None, "/state", {}, str(tmp_path)) is None
