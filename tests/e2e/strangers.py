"""Strangers who take as much as they may: many addresses, each with all that is bad to serve.

A process of its own. Some ask and don't read; some read as fast as they can and ask again. Whoever
is closed comes again.
"""

import heapq
import json
import os
import random
import re
import resource
import selectors
import socket
import subprocess
import sys
import time
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import attrs
import bcrypt
import psutil

from nixery.history.blocks import Block, BlockFile
from nixery.history.folder import HistoryFolder
from nixery.history.summary import BuildHead
from nixery.model.event_json import line
from nixery.model.events import LogLine
from tests.e2e.daemon import Daemon
from tests.repository import Repository
from tests.waiting import HUNG

WITH_EVENTS = 100
"""Builds of a written history that have events."""
ALLOCATOR = {"PYTHONMALLOC": "malloc"}
"""What the unit, the container and ``make run`` start a daemon with."""
ADDRESSES = 60
UNREAD = ("events", "list", "blob")
"""Kinds of requests whose answers are not read."""
BUSY = ("search", "page", "image", "tag", "password")
"""Kinds of requests that are made again as soon as they are answered."""
RESTS = {"image": 1.0, "tag": 0.05, "password": 0.05}
"""Seconds between two requests, where asking faster would take the crowd's own time."""
_USER = "somebody"
_COST = 12  # of a password, as the README has it
_BASIC = f"Authorization: Basic {b64encode(f'{_USER}:wrong'.encode()).decode()}\r\n"
_AT_ONCE = 200
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


@attrs.frozen
class Plan:
    """What a crowd does.

    :param paths: kind → paths, of which each request has one; ``*`` in one is another number
        each time, and ``~`` another letter.
    :param unread: connections of each address for each kind that is not read.
    :param busy: the same for each kind that is asked again and again.
    """

    paths: Mapping[str, Sequence[str]]
    addresses: int = ADDRESSES
    unread: int = 30
    busy: int = 6


class _Member:
    """A connection of one stranger."""

    def __init__(self, crowd: "_Crowd", address: str, kind: str) -> None:
        self._crowd = crowd
        self._address = address
        self.kind = kind
        self._connection: socket.socket | None = None
        self._head = b""
        self.due = 0.0

    def come(self) -> None:
        """Connect and ask."""
        made = socket.socket()
        made.setblocking(False)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        made.bind((self._address, 0))
        made.connect_ex(("127.0.0.1", self._crowd.port))
        self._connection = made
        self._head = b""
        self._crowd.selector.register(made, selectors.EVENT_WRITE, self)

    def ready(self) -> None:
        """The connection is there, or has something."""
        assert self._connection is not None
        try:
            key = self._crowd.selector.get_key(self._connection)
            if key.events & selectors.EVENT_WRITE:
                self._connection.send(self._request())
                self._crowd.selector.modify(self._connection, selectors.EVENT_READ, self)
            else:
                self._read()
        except BlockingIOError:
            pass
        except OSError:
            self._leave("lost")

    def _request(self) -> bytes:
        path = random.choice(self._crowd.paths[self.kind])
        path = path.replace("*", str(random.randrange(10**9)))
        path = re.sub("~", lambda _: random.choice(_LETTERS), path)
        more = _BASIC if self.kind == "password" else ""
        accept = "text/html" if self.kind == "page" else "*/*"
        return f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: {accept}\r\n{more}\r\n".encode()

    def _read(self) -> None:
        assert self._connection is not None
        if self.kind in UNREAD:
            # The head alone: then it waits until the other side has enough.
            data = self._connection.recv(200 if not self._head else 1, socket.MSG_PEEK)
            if not data:
                self._leave("closed")
                return
            if not self._head:
                self._head = data
                self._crowd.answered(self.kind, data)
            self._crowd.selector.unregister(self._connection)
            self._crowd.silent.add(self)
            return
        data = self._connection.recv(65536)
        if not data:
            self._leave("closed" if not self._head else "")
            return
        self._head += data
        if self._is_whole():
            self._crowd.answered(self.kind, self._head)
            self._leave("")

    def _is_whole(self) -> bool:
        head, found, body = self._head.partition(b"\r\n\r\n")
        if not found:
            return False
        for field in head.lower().split(b"\r\n"):
            if field.startswith(b"content-length:"):
                return len(body) >= int(field.partition(b":")[2])
        return body.endswith(b"0\r\n\r\n")

    def look(self) -> None:
        """See whether one that is not read was closed."""
        connection = self._connection
        assert connection is not None
        error = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
        if error or info[0] != 1:  # TCP_ESTABLISHED
            self._crowd.silent.discard(self)
            self._leave("closed")

    def _leave(self, why: str) -> None:
        if why:
            self._crowd.counts[f"{self.kind} {why}"] += 1
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(KeyError, ValueError):
                self._crowd.selector.unregister(connection)
            connection.close()
        self.due = time.monotonic() + (1.0 if why else RESTS.get(self.kind, 0.0))
        self._crowd.wait(self)


class _Crowd:
    """All strangers."""

    def __init__(self, port: int, plan: Plan) -> None:
        self.port = port
        self.paths = plan.paths
        self.selector = selectors.DefaultSelector()
        self.silent: set[_Member] = set()
        self._waiting: list[tuple[float, int, _Member]] = []
        self.counts: Counter[str] = Counter()
        for number in range(plan.addresses):
            for kind in plan.paths:
                count = plan.unread if kind in UNREAD else plan.busy
                address = f"127.0.{1 + number // 250}.{1 + number % 250}"
                for _ in range(count):
                    self.wait(_Member(self, address, kind))

    @property
    def has_come(self) -> bool:
        """Whether everybody was there once."""
        return not self._waiting or self._waiting[0][0] > 0

    def wait(self, member: _Member) -> None:
        """Have a member come when it is due."""
        heapq.heappush(self._waiting, (member.due, id(member), member))

    def answered(self, kind: str, head: bytes) -> None:
        """Count an answer by its status."""
        self.counts[f"{kind} {head[9:12].decode('ascii', 'replace')}"] += 1

    def turn(self) -> None:
        """Do what is to be done now."""
        now = time.monotonic()
        for _ in range(_AT_ONCE):
            if not self._waiting or self._waiting[0][0] > now:
                break
            heapq.heappop(self._waiting)[2].come()
        for key, _ in self.selector.select(0.02):
            key.data.ready()

    def look(self) -> None:
        """See which of the silent were closed."""
        for member in list(self.silent):
            member.look()


@attrs.define
class Strangers:
    """The crowd's process.

    :ivar counts: kind and status → how many such answers there were, when it has ended.
    """

    _process: "subprocess.Popen[bytes]"
    counts: dict[str, int] = attrs.Factory(dict)

    def leave(self) -> None:
        """Have all of them close their connections."""
        out, _ = self._process.communicate(b"leave\n", timeout=HUNG)
        self.counts = json.loads(out)


def write_history(state: Path, builds: int) -> None:
    """Have a daemon's state folder know of builds, half of which failed, at length."""
    folder = state / "history"
    folder.mkdir(parents=True, exist_ok=True)
    shelf, now = HistoryFolder(str(folder)), time.time() - 3600
    error = "the build of x-1.0 failed; the end of its log:\n" + "\n".join(
        f"{line}: {'error in what was compiled ' * 3}" for line in range(40)
    )
    lines = b"".join(line(n, now, LogLine("x-1.0", f"{n:90}")) for n in range(1, 1001))
    for number in range(builds):
        head = BuildHead(
            f"{int(now * 1000) + number:012x}0000", "0" * 64, f"p{number}", "latest", now
        )
        ended = {"state": "done", "digest": None} if number % 2 else {"state": "failed"}
        head = attrs.evolve(head, ended=now + 5, **ended, error=None if number % 2 else error)
        document = {"head": attrs.asdict(head), "details": {}}
        (folder / f"{head.id}.json").write_text(json.dumps(document), "ascii")
        if number >= builds - WITH_EVENTS:
            BlockFile(shelf.events(head.id)).append(Block(1, 1000, lines))


def served(source: Repository, folder: Path) -> dict[str, str]:
    """Settings for a git source, and for a user with a password, where anonymous clients may pull
    everything."""
    hidden = bcrypt.hashpw(b"right", bcrypt.gensalt(_COST)).decode("ascii")
    (folder / "users").write_text(f"{_USER}:{hidden}\n")
    (folder / "rules").write_text('[anonymous]\nallow = ["*"]\n')
    return {
        "NIXERY_PKGS_PATH": "",
        "NIXERY_PKGS_REPO": source.url,
        "NIXERY_HTPASSWD": str(folder / "users"),
        "NIXERY_RULES": str(folder / "rules"),
    }


def proportional(pid: int) -> float:
    """The memory of a process in MB, where pages that several have are divided among them."""
    return float(psutil.Process(pid).memory_full_info().pss) / 1e6


def plan_for(daemon: Daemon, names: Sequence[str], blob: str) -> Plan:
    """All that a daemon may be asked for.

    :param names: of packages that images can be made of.
    :param blob: a large one's path.
    """
    builds = daemon.get(f"/builds?n={WITH_EVENTS}").json()
    pairs = [f"{a}/{b}" for a in names for b in names if a != b]
    return Plan(
        {
            "events": [f"/builds/{build['id']}/events" for build in builds],
            "list": ["/builds?n=1000"],
            "blob": [blob],
            "search": ["/packages?n=100&q=~", "/packages?n=100&q=~%20~~%20~~~", "/packages?n=100"],
            "page": ["/", f"/images/{names[0]}"],
            "image": [f"/v2/{pair}/{name}/manifests/latest" for pair in pairs for name in names],
            "tag": ["/v2/hello/manifests/no-such-tag-*"],
            "password": ["/v2/", "/token?scope=repository:hello:pull"],
        }
    )


@contextmanager
def strangers(port: int, plan: Plan) -> Iterator[Strangers]:
    """Have strangers at a daemon for the length of a block."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.e2e.strangers", str(port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    there = Strangers(process)
    with process:
        try:
            process.stdin.write(json.dumps(attrs.asdict(plan)).encode("ascii") + b"\n")
            process.stdin.flush()
            assert process.stdout.readline() == b"here\n"
            yield there
            if not there.counts:
                there.leave()
        finally:
            process.kill()


def main() -> None:
    """Be the strangers, until told to leave.

    They have other machines; here, they are not to take the daemon's processor.
    """
    os.nice(10)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    document: Any = json.loads(sys.stdin.buffer.readline())
    crowd = _Crowd(int(sys.argv[1]), Plan(**document))
    looked, told = time.monotonic(), False
    stdin = selectors.DefaultSelector()
    stdin.register(sys.stdin.buffer, selectors.EVENT_READ)
    while not stdin.select(0):
        crowd.turn()
        if not told and crowd.has_come:
            told = True
            print("here", flush=True)
        if time.monotonic() > looked + 1:
            looked = time.monotonic()
            crowd.look()
    print(json.dumps(crowd.counts), flush=True)


if __name__ == "__main__":
    main()
