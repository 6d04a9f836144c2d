"""Several processes that answer: the daemon and its responders."""

import http.client
import signal
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import bcrypt
import psutil
import pytest

from tests.e2e.conftest import StartDaemon
from tests.e2e.daemon import ACCEPT, Daemon
from tests.waiting import HUNG, wait_until, wait_until_gone

pytestmark = pytest.mark.real_nix

PATH = "/v2/hello/manifests/latest"
TIMES = 20
HIDDEN = bcrypt.hashpw(b"right", bcrypt.gensalt(4)).decode("ascii")
USERS = {name: f"{name}:{HIDDEN}\n" for name in ("ada", "bob")}
Seen = tuple[int, list[tuple[str, str]], bytes]


def responders(daemon: Daemon) -> list[psutil.Process]:
    found = []
    for each in psutil.Process(daemon.process.pid).children():
        try:
            if "nixery.serving.responder" in each.cmdline():
                found.append(each)
        except psutil.NoSuchProcess:
            pass
    return found


class Client:
    """A client that keeps its connection."""

    def __init__(self, daemon: Daemon) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=HUNG)

    def ask(self, path: str, method: str = "GET", **headers: str) -> Seen:
        """The answer, without what differs each time."""
        self._connection.request(method, path, headers={"Accept": ACCEPT, **headers})
        answer = self._connection.getresponse()
        kept = [each for each in answer.getheaders() if each[0].lower() not in DIFFERING]
        return answer.status, sorted(kept), answer.read()

    def close(self) -> None:
        self._connection.close()


DIFFERING = ("date", "x-request-id")


def questions(daemon: Daemon) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Paths, methods and headers of requests for all kinds of answers."""
    manifest = daemon.pull("hello")
    digest = manifest.headers["Docker-Content-Digest"]
    blob = f"/v2/hello/blobs/{manifest.json()['config']['digest']}"
    large = max(manifest.json()["layers"], key=lambda layer: layer["size"])["digest"]
    for method in ("GET", "HEAD"):
        yield PATH, method, {}
        yield f"/v2/hello/manifests/{digest}", method, {}
        yield PATH, method, {"If-None-Match": f'"{digest}"'}
        yield blob, method, {}
        yield blob, method, {"Range": "bytes=1-5"}
        yield blob, method, {"Range": "bytes=100000000-"}
        yield f"/v2/hello/blobs/{large}", method, {}
        yield "/v2/", method, {}
        yield "/v2/hello/manifests/no-such-tag", method, {}
        yield "/nowhere", method, {}
    yield PATH, "DELETE", {}


def logged(daemon: Daemon, client: Client, mark: str) -> int:
    """How many pulls of ``hello`` have a line in the log that stands before a mark's: lines are
    written a moment later, in order."""
    client.ask(f"/v2/hello/manifests/{mark}")
    wait_until(lambda: f" GET hello:{mark} " in daemon.log)
    return daemon.log.partition(f" GET hello:{mark} ")[0].count(" GET hello:latest ")


def test_same_answers(start_daemon: StartDaemon) -> None:
    """The answers are those of one process, to the byte, however often they are asked for; each
    pull is logged and counted once, whoever answers it."""
    alone = start_daemon()
    asked = list(questions(alone))
    client = Client(alone)
    expected = [client.ask(path, method, **headers) for path, method, headers in asked]
    client.close()
    alone.stop()
    daemon = start_daemon(NIXERY_WORKERS="2")
    daemon.pull("hello")
    client = Client(daemon)
    for _ in range(3):
        for (path, method, headers), answer in zip(asked, expected, strict=True):
            for _ in range(4):
                assert client.ask(path, method, **headers) == answer
    before = logged(daemon, client, "before")
    for _ in range(TIMES):
        client.ask(PATH)
    assert logged(daemon, client, "after") == before + TIMES
    assert daemon.metric('nixery_children{kind="responder"}') == 1
    client.close()


def test_edited_users_and_rules(start_daemon: StartDaemon, tmp_path: Path) -> None:
    """Once the daemon has read new users or rules, no responder gives what they forbid; others are
    still answered."""
    users, rules = tmp_path / "users", tmp_path / "rules.toml"
    users.write_text(USERS["ada"] + USERS["bob"])
    rules.write_text('[users.ada]\nallow = ["*"]\n[users.bob]\nallow = ["*"]\n')
    daemon = start_daemon(NIXERY_WORKERS="2", NIXERY_HTPASSWD=str(users), NIXERY_RULES=str(rules))
    ada, bob = ("Basic " + b64encode(b"%b:right" % name).decode() for name in (b"ada", b"bob"))
    clients = [Client(daemon) for _ in range(4)]

    def statuses(header: str) -> list[int]:
        return [client.ask(PATH, Authorization=header)[0] for client in clients for _ in range(5)]

    def reload() -> None:
        before = daemon.log.count("was reloaded")
        daemon.process.send_signal(signal.SIGHUP)
        wait_until(lambda: daemon.log.count("was reloaded") > before + 1)

    assert set(statuses(ada) + statuses(bob)) == {200}
    rules.write_text('[users.ada]\nallow = ["*"]\n[users.bob]\ndeny = ["hello"]\n')
    reload()
    assert (set(statuses(bob)), set(statuses(ada))) == ({403}, {200})
    users.write_text(USERS["bob"])
    reload()
    assert set(statuses(ada)) <= {401, 429}
    for client in clients:
        client.close()


@contextmanager
def pulling(daemon: Daemon, count: int) -> Iterator[Callable[[], int]]:
    """Clients that pull all the time until the block ends; each that fails connects again.

    :return: says how many answers they have had.
    """
    ended, answers, faults = threading.Event(), [0] * count, [0] * count
    manifest = daemon.pull("hello").body

    def pull(number: int) -> None:
        client = Client(daemon)
        while not ended.is_set():
            try:
                status, _, body = client.ask(PATH)
                assert (status, body) == (200, manifest)
                answers[number] += 1
            except (OSError, http.client.HTTPException):
                faults[number] += 1
                client.close()
        client.close()

    with ThreadPoolExecutor(count) as pool:
        running = [pool.submit(pull, number) for number in range(count)]
        try:
            yield lambda: min(answers)
        finally:
            ended.set()
    for each in running:
        each.result()
    assert sum(faults) <= 1, "what the killed process had in hand, and no more"


def test_killed_responders(start_daemon: StartDaemon) -> None:
    """A responder that is killed amid 50 pulls is replaced, and nobody else's answer is lost."""
    daemon = start_daemon(NIXERY_WORKERS="2")
    with pulling(daemon, 50) as least:
        wait_until(lambda: least() > 2)
        (responder,) = responders(daemon)
        responder.kill()
        wait_until(lambda: [each.pid for each in responders(daemon)] not in ([], [responder.pid]))
        had = least()
        wait_until(lambda: least() > had + 2)
    assert daemon.metric("nixery_responders_replaced_total") == 1
    assert "a responder ended: " in daemon.log


def test_nothing_is_left(start_daemon: StartDaemon) -> None:
    """When the daemon is killed, its responders end too."""
    daemon = start_daemon(NIXERY_WORKERS="3")
    daemon.pull("hello")
    left = responders(daemon)
    assert len(left) == 2
    daemon.process.kill()
    daemon.process.wait()
    wait_until_gone(left)


def test_stopping(start_daemon: StartDaemon) -> None:
    """SIGTERM: connections that responders had are answered by the daemon, then closed; the exit
    code is 0, and no process is left."""
    daemon = start_daemon(NIXERY_WORKERS="2", NIXERY_DRAIN="3600")
    daemon.pull("hello")
    clients = [Client(daemon) for _ in range(5)]
    expected = [client.ask(PATH) for client in clients for _ in range(4)]
    left = responders(daemon)
    assert len(left) == 1
    fresh = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=HUNG)
    fresh.connect()
    assert daemon.get("/v2/").status == 200  # so that the connection before was taken, too
    daemon.process.send_signal(signal.SIGTERM)
    wait_until_gone(left)
    fresh.request("GET", PATH, headers={"Accept": ACCEPT})
    answer = fresh.getresponse()
    assert (answer.status, answer.getheader("Connection")) == (200, "close")
    assert answer.read() == expected[0][2]
    assert daemon.process.wait(timeout=HUNG) == 0
