"""What one client, or a crowd of them, can't take from the others."""

import re
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest

from tests.e2e.conftest import StartDaemon
from tests.e2e.daemon import Daemon
from tests.e2e.test_queue import pull
from tests.waiting import HUNG, wait_until

pytestmark = [pytest.mark.real_nix, pytest.mark.undisturbed]

SET = """
{ system ? builtins.currentSystem, ... }: let
  make = name: builder: derivation {
    name = "${name}-UNIQUE"; inherit system; builder = "/bin/sh"; args = [ "-c" builder ];
  };
  endless = make "endless" "/bin/sleep 1000; echo > $out";
  numbered = name: make: n: { name = name + toString n; value = make (name + toString n); };
  named = name: make: builtins.listToAttrs (builtins.genList (numbered name make) 210);
in named "quick" (name: make name "echo > $out")
  // named "slow" (name: make name "/bin/sleep 1000; echo > $out")
  // named "shares" (name: make name "cat ${endless} > $out")
"""


def write_set(folder: Path) -> dict[str, str]:
    """A package set of quick packages, slow ones, and ones that share a slow dependency."""
    folder.mkdir()
    (folder / "default.nix").write_text(SET.replace("UNIQUE", str(time.time_ns())))
    return {"NIXERY_PKGS_PATH": str(folder)}


def send(daemon: Daemon, source: str, path: str) -> socket.socket:
    """Ask for something, from an address."""
    client = socket.create_connection(("127.0.0.1", daemon.port), HUNG, (source, 0))
    client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    return client


@contextmanager
def asking(daemon: Daemon, asked: Sequence[tuple[str, str]]) -> Iterator[None]:
    """Have clients ask, each from its address for an image, and wait until the block ends."""
    with ExitStack() as stack:
        for source, name in asked:
            stack.enter_context(send(daemon, source, f"/v2/{name}/manifests/latest"))
            wait_until(partial(_is_asked_for, daemon, name))
        yield


def _is_asked_for(daemon: Daemon, name: str) -> bool:
    return re.search(rf" {name}:latest \+\S+ s: asked for, ", daemon.log) is not None


def gave_way(daemon: Daemon, reason: str) -> float:
    return daemon.metric(f'nixery_builds_gave_way_total{{reason="{reason}"}}')


def test_one_derivation_takes_one_turn(start_daemon: StartDaemon, tmp_path: Path) -> None:
    """Of four images that share a derivation, one has a turn while that is built: another
    client's is made at once, whether those who asked for the others wait or not."""
    daemon = start_daemon(**write_set(tmp_path / "set"))
    with asking(daemon, [(f"127.{number + 1}.0.1", f"shares{number}") for number in range(4)]):
        wait_until(lambda: daemon.log.count("waiting for what another build makes: endless-") == 3)
        assert pull(daemon, "quick0", "127.9.0.1")[0] == 200
        assert gave_way(daemon, "blocked") == 1
    assert pull(daemon, "quick1", "127.9.0.1")[0] == 200
    assert daemon.log.count("building endless-") == 1


@pytest.mark.parametrize("stays", [False, True])
def test_turns_that_others_want(start_daemon: StartDaemon, tmp_path: Path, stays: bool) -> None:
    """When builds have all turns, one gives way to another client's: one that nobody waits for
    any more, or one of a client that has several. It is begun again when there is room."""
    daemon = start_daemon(**write_set(tmp_path / "set"), NIXERY_MAX_BUILDS="2")
    with asking(daemon, [("127.1.0.1", "slow0"), (f"127.{2 - stays}.0.1", "slow1")]):
        wait_until(lambda: daemon.log.count("building slow") == 2)
        if stays:
            assert pull(daemon, "quick0", "127.9.0.1")[0] == 200
    if not stays:
        assert pull(daemon, "quick0", "127.9.0.1")[0] == 200
    assert gave_way(daemon, "share" if stays else "abandoned") == 1
    wait_until(lambda: daemon.log.count("building slow") == 3)


def test_a_crowd_does_not_keep_others_out(start_daemon: StartDaemon, tmp_path: Path) -> None:
    """When two hundred addresses of a network have all turns and the whole queue, a client of
    another network is served at once; when they have left, those of their own are, too."""
    daemon = start_daemon(**write_set(tmp_path / "set"), NIXERY_HOLD="3600")
    crowd = [(f"127.1.{number % 8}.{number + 1}", f"slow{number}") for number in range(204)]
    with asking(daemon, crowd):
        assert pull(daemon, "quick0", "127.2.0.1")[1] == {200: 1}
        assert daemon.get("/v2/quick1/manifests/latest").status == 200
    wait_until(lambda: pull(daemon, "quick2", "127.1.0.254")[0] == 200)


CROWD = [f"127.1.0.{number}" for number in range(1, 33)]


def read_closed(clients: list[socket.socket], another: Callable[[], socket.socket]) -> bytes:
    """What came on a stream of a build that was closed while others of them go on.

    :param another: begins one for which another one is closed, if there is no room.
    """
    told = dict.fromkeys(clients, b"")
    found: list[bytes] = []

    def is_closed() -> bool:
        told[another()] = b""
        for client in list(told):
            client.setblocking(False)
            with suppress(BlockingIOError, ConnectionResetError):
                while piece := client.recv(65536):
                    told[client] += piece
                found.append(told.pop(client))
        return any(b"build-started" in each for each in found)

    wait_until(is_closed)
    assert told
    return next(each for each in found if b"build-started" in each)


def test_streams_make_room(start_daemon: StartDaemon, tmp_path: Path) -> None:
    """When a crowd follows a build on all connections, others are answered: streams are closed
    for them, and can be resumed where they were."""
    daemon = start_daemon(**write_set(tmp_path / "set"), NIXERY_MAX_CONNECTIONS="200")
    assert pull(daemon, "quick0")[0] == 200
    with asking(daemon, [("127.0.0.1", "slow0")]):
        wait_until(lambda: "building slow0" in daemon.log)
        build = daemon.get("/builds").json()[0]["id"]
        path = f"/builds/{build}/events"
        with ExitStack() as stack:
            # Together more than there may be.
            clients = [stack.enter_context(send(daemon, each, path)) for each in CROWD * 8]
            for _ in range(20):
                assert daemon.get("/v2/quick0/manifests/latest").status == 200
                assert daemon.get("/healthz").status == 200
            others = (f"127.2.0.{number}" for number in range(1, 255))
            told = read_closed(
                clients, lambda: stack.enter_context(send(daemon, next(others), path))
            )
        assert not told.endswith(b"0\r\n\r\n")  # so that a browser comes back
        last = told.rpartition(b"\nid: ")[2].split()[0].decode()
        with socket.create_connection(("127.0.0.1", daemon.port), HUNG) as client:
            head = f"Host: x\r\nLast-Event-ID: {int(last) - 1}\r\n\r\n"
            client.sendall(f"GET /builds/{build}/events HTTP/1.1\r\n{head}".encode())
            resumed = b""
            while b"\nid: " not in resumed:
                resumed += client.recv(65536)
    assert f"\nid: {last}".encode() in resumed


def test_the_reserve_is_for_what_is_known(start_daemon: StartDaemon, tmp_path: Path) -> None:
    """When a crowd waits for a build on all connections, a known image and health are answered;
    who would have to wait, too, is told that there is no room."""
    settings = {"NIXERY_MAX_CONNECTIONS": "200", "NIXERY_HOLD": "3600"}
    daemon = start_daemon(**write_set(tmp_path / "set"), **settings)
    assert pull(daemon, "quick0")[0] == 200
    with ExitStack() as stack:
        while daemon.get("/healthz").headers.get("Connection") != "close":
            for source in CROWD:
                stack.enter_context(send(daemon, source, "/v2/slow0/manifests/latest"))
        for _ in range(20):
            assert daemon.get("/v2/quick0/manifests/latest").status == 200
            assert daemon.get("/healthz").status == 200
        refused = daemon.get("/v2/slow1/manifests/latest")
        assert (refused.status, refused.headers["Connection"]) == (503, "close")
        assert int(refused.headers["Retry-After"]) > 0
