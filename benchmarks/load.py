"""Load for an HTTP server: one process, raw sockets, a request that was made beforehand.

A real HTTP client would take more processor time than the servers that are measured. This one takes
some 10 µs a request, checks each answer's status and length, and the digest of some of them.
"""

import gc
import hashlib
import json
import select
import socket
import subprocess
import sys
import time
from pathlib import Path

import attrs

_ROOM = 1024 * 1024
_SAMPLE = 500
"""Of so many answers, the digest of one is looked at."""
_PATIENCE = 60
"""Seconds without any byte after which a server is given up."""


@attrs.frozen
class Load:
    """Requests, all of which are the same.

    :param request: what is sent: lines of ASCII, with their ends.
    :param length: bytes of the answer's body, which ``HEAD`` only announces; none where answers
        may differ.
    :param digest: the body's sha256; none where it is not looked at.
    :param connections: as many requests are under way at the same time.
    :param renewed: whether each request has a connection of its own.
    :param seconds: for so long; what is under way then is waited for.
    """

    port: int
    request: str
    length: int | None = None
    digest: str | None = None
    connections: int = 1
    renewed: bool = False
    seconds: float = 1.0


@attrs.frozen
class Done:
    """Answers that came.

    :param seconds: from the first request to the last answer's end.
    :param bytes: of their bodies, where the length is known.
    :param cpu: seconds of processor time that the load itself took.
    """

    answers: int
    seconds: float
    bytes: int
    cpu: float


class AnswerWrong(Exception):
    """A server answered with something else than it should have."""


def run(load: Load) -> Done:
    """Put a load on a server, from a process of its own.

    :raises AnswerWrong: if not every answer was right.
    """
    command = [sys.executable, str(Path(__file__).resolve()), json.dumps(attrs.asdict(load))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise AnswerWrong(done.stderr.strip())
    return Done(**json.loads(done.stdout))


class _Client:
    """A connection, and the answer that comes on it."""

    def __init__(self, generator: "_Generator") -> None:
        self.socket = socket.create_connection(("127.0.0.1", generator.port), timeout=_PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self._generator = generator
        self._first = b""
        self._missing: int | None = None

    def ask(self) -> None:
        """Send the request; there is room for it, since nothing else is under way."""
        self._first, self._missing = b"", None
        self.socket.send(self._generator.request)

    def take(self) -> bool:
        """Take what has come.

        :return: whether the answer is whole.
        """
        room = self._generator.room
        count = self.socket.recv_into(room)
        if not count:
            raise AnswerWrong("the connection was closed in the middle of an answer")
        if self._missing is None:
            self._first += room[:count]
            end = self._first.find(b"\r\n\r\n")
            if end < 0:
                return False
            self._missing = self._length(end) + end + 4 - len(self._first)
        else:
            self._missing -= count
        if self._missing < 0:
            raise AnswerWrong("more came than was announced")
        return self._missing == 0

    def _length(self, end: int) -> int:
        """The length of the body that follows a head, which has to be right."""
        generator, head = self._generator, self._first
        place = head.find(generator.announced, 0, end + 2)
        if not head.startswith(b"HTTP/1.1 200 ") or place < 0:
            raise AnswerWrong(head[:end].decode("latin-1"))
        if generator.length is None:
            return int(head[place + len(generator.announced) :].partition(b"\r")[0])
        return generator.length

    def look_at_body(self, digest: str) -> None:
        """See whether a body that came in one piece is the right one."""
        body = self._first.partition(b"\r\n\r\n")[2]
        if len(body) == self._generator.length and hashlib.sha256(body).hexdigest() != digest:
            raise AnswerWrong("the body is another")


class _Generator:
    """Keeps as many requests under way as it is told to."""

    def __init__(self, load: Load) -> None:
        self.port = load.port
        self.request = load.request.encode("ascii")
        self.length = 0 if load.request.startswith("HEAD ") else load.length
        self.announced = b"Content-Length: "
        if load.length is not None:
            self.announced += b"%d\r\n" % load.length
        self.room = memoryview(bytearray(_ROOM))
        self._load = load
        self._poll = select.epoll()
        self._clients: dict[int, _Client] = {}

    def put(self) -> Done:
        """Ask until the time is over, and wait for what is under way then."""
        load, clients = self._load, self._clients
        began = now = time.perf_counter()
        answers, busy = 0, time.process_time()
        for _ in range(load.connections):
            self._come()
        while clients:
            ready = self._poll.poll(_PATIENCE)
            if not ready:
                raise AnswerWrong(f"nothing came for {_PATIENCE} s")
            for descriptor, _ in ready:
                client = clients[descriptor]
                if not client.take():
                    continue
                answers += 1
                if load.digest is not None and answers % _SAMPLE == 1:
                    client.look_at_body(load.digest)
                now = time.perf_counter()
                self._next(client, over=now > began + load.seconds)
        cpu = time.process_time() - busy
        return Done(answers, now - began, answers * (self.length or 0), cpu)

    def _come(self) -> None:
        client = _Client(self)
        self._clients[client.socket.fileno()] = client
        self._poll.register(client.socket, select.EPOLLIN)
        client.ask()

    def _next(self, client: _Client, over: bool) -> None:
        if not over and not self._load.renewed:
            client.ask()
            return
        del self._clients[client.socket.fileno()]
        client.socket.close()  # and with it its place in the poll
        if not over:
            self._come()


def main() -> None:
    """Put the load that the command line names on a server, and print what came of it."""
    gc.disable()
    try:
        done = _Generator(Load(**json.loads(sys.argv[1]))).put()
    except (AnswerWrong, OSError) as error:
        raise SystemExit(f"{type(error).__name__}: {error}") from None
    print(json.dumps(attrs.asdict(done)))


if __name__ == "__main__":
    main()
