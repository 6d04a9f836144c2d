"""More new images at once than may be made at once."""

import http.client
import re
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Event, Thread

import psutil
import pytest

from tests.e2e.clients import Docker
from tests.e2e.conftest import StartDaemon
from tests.e2e.daemon import Daemon
from tests.waiting import HUNG, wait_until

pytestmark = [pytest.mark.real_nix, pytest.mark.undisturbed]

COUNT = 100
BUSY = 'nixery_pulls_total{by="tag",outcome="busy"}'
SET = """
{ system ? builtins.currentSystem, ... }: let
  make = name: builder: derivation {
    inherit name system; builder = "/bin/sh"; args = [ "-c" builder ];
  };
  number = n: { name = "p${toString n}"; value = make "p${toString n}-UNIQUE" "echo > $out"; };
in builtins.listToAttrs (builtins.genList number 100) // {
  long = make "long-UNIQUE" "while [ ! -e GATE/open ]; do /bin/sleep 0.2; done; echo > $out";
  longer = make "longer-UNIQUE" "while [ ! -e GATE/open ]; do /bin/sleep 0.2; done; echo > $out";
  broken = make "broken-UNIQUE" "echo this is why; exit 3";
}
"""


def write_set(folder: Path) -> dict[str, str]:
    """A package set of a hundred small packages, two that take until they are let go on, and a
    broken one."""
    folder.mkdir()
    gate = folder.with_name("gate")
    gate.mkdir()
    text = SET.replace("UNIQUE", str(time.time_ns())).replace("GATE", str(gate))
    (folder / "default.nix").write_text(text)
    return {"NIXERY_PKGS_PATH": str(folder), "NIX_CONFIG": f"extra-sandbox-paths = {gate}"}


def go_on(folder: Path) -> None:
    """Let the long packages of a set be done."""
    (folder.with_name("gate") / "open").touch()


class Watcher:
    """Looks how many Nix processes of a daemon there are."""

    def __init__(self, daemon: Daemon) -> None:
        self.most = 0
        self._daemon = daemon
        self._stop = Event()
        self._thread = Thread(target=self._look)

    def __enter__(self) -> "Watcher":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._stop.wait(0.01):
            self.most = max(self.most, sum(map(_is_nix_build, self._daemon.children())))


def _is_nix_build(process: psutil.Process) -> bool:
    try:
        parent = process.parent()
        # What Nix forks has its name for a moment.
        forked = parent is not None and parent.name() == "nix-build"
        return process.name() == "nix-build" and not forked
    except psutil.Error:
        return False


def pull(daemon: Daemon, name: str, source: str = "127.0.0.1") -> tuple[int, Counter[int]]:
    """Pull until it works, as clients that retry do; and how often what was answered."""
    answers: Counter[int] = Counter()
    path = f"/v2/{name}/manifests/latest"
    while True:
        connection = http.client.HTTPConnection(
            "127.0.0.1", daemon.port, timeout=HUNG, source_address=(source, 0)
        )
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        connection.close()
        answers[answer.status] += 1
        if answer.status == 429:
            assert int(answer.headers["Retry-After"]) > 0
            time.sleep(0.5)
        elif answer.status == 307:
            path = answer.headers["Location"]
        else:
            return answer.status, answers


def test_a_hundred_new_images(start_daemon: StartDaemon, tmp_path: Path) -> None:
    """Of a hundred new images that are asked for at once while two are made, twenty wait and the
    rest are told to come again; two are made at a time, and all in the end."""
    daemon = start_daemon(
        **write_set(tmp_path / "set"), NIXERY_MAX_BUILDS="2", NIXERY_MAX_QUEUE="20"
    )
    # The start tries a build of its own, which is none of an image.
    daemon.until_ready()
    with Watcher(daemon) as watcher, ThreadPoolExecutor(COUNT + 2) as clients:
        asked = [clients.submit(pull, daemon, name) for name in ("long", "longer")]
        wait_until(lambda: all(f"building {name}-" in daemon.log for name in ("long", "longer")))
        asked += [clients.submit(pull, daemon, f"p{number}") for number in range(COUNT)]
        wait_until(lambda: daemon.metric("nixery_builds_waiting") == 20)
        wait_until(lambda: daemon.metric(BUSY) >= COUNT - 20)
        go_on(tmp_path / "set")
        ends = [each.result() for each in asked]
    assert [status for status, _ in ends] == [200] * (COUNT + 2)
    told: Counter[int] = sum((answers for _, answers in ends), Counter())
    assert told[429] >= COUNT - 20
    assert watcher.most == 2
    assert daemon.nix_builds == COUNT + 2


def test_a_full_queue(start_daemon: StartDaemon, tmp_path: Path, docker: Docker) -> None:
    """While nothing new can be made, docker is told so in words, pulls what is known at once,
    and another client's build comes before the second one of who fills the queue."""
    daemon = start_daemon(
        **write_set(tmp_path / "set"), NIXERY_MAX_BUILDS="1", NIXERY_MAX_QUEUE="3"
    )
    assert pull(daemon, "p0")[0] == 200
    with ThreadPoolExecutor(8) as clients:
        waiting = [clients.submit(pull, daemon, "long")]
        wait_until(lambda: "building long-" in daemon.log)
        for number in (1, 2, 3):
            waiting.append(clients.submit(pull, daemon, f"p{number}"))
            wait_until(partial(_so_many_wait, daemon, number))
        refused = docker("pull", f"{daemon.host}/p4")
        assert "3 images are waiting to be built already" in refused.output
        assert docker("pull", f"{daemon.host}/p0").code == 0
        waiting.append(clients.submit(pull, daemon, "p5", "127.0.0.2"))
        wait_until(lambda: _so_many_wait(daemon, 4))
        go_on(tmp_path / "set")
        assert {each.result()[0] for each in waiting} == {200}
    ended = re.findall(r"(\S+) \+[0-9.]+ s: done, as ", daemon.log)
    assert ended.index("p5:latest") < ended.index("p2:latest")


def _so_many_wait(daemon: Daemon, count: int) -> bool:
    return daemon.log.count("waiting for its turn") == count


def test_retrying_clients_build_once(start_daemon: StartDaemon, tmp_path: Path) -> None:
    """Who asks again for what failed just now is answered at once, with the reason and the same
    build's address; after a while it is tried again."""
    packages = write_set(tmp_path / "set")
    daemon = start_daemon(**packages, NIXERY_FAILURE_TTL="3600")
    first = daemon.pull("broken")
    assert first.status == 400
    assert "this is why" in first.json()["errors"][0]["message"]
    for _ in range(5):
        again = daemon.pull("broken")
        assert (again.status, again.body) == (400, first.body)
    assert daemon.nix_builds == 1
    daemon = start_daemon(**packages, NIXERY_FAILURE_TTL="1", state=tmp_path / "another")
    first = daemon.pull("broken")
    wait_until(lambda: daemon.pull("broken").body != first.body)
    assert daemon.nix_builds == 2
