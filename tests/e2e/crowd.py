"""Clients that only take up room, in a process of their own.

Half-open connections have sent a part of a request, slow readers load a blob at their leisure,
and the impatient ask for images that take long. Whoever is closed or answered comes again.
"""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import attrs

TURN = 0.2
"""Seconds between two looks at all members."""
MOUTHFUL = 16 * 1024
"""Bytes that a slow reader takes in a turn."""
HALF = "GET /v2/ HTTP/1.1\r\nHost: half-open\r\n"
WHOLE = "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"


@attrs.define(eq=False)
class _Member:
    """Someone in the crowd.

    :param sent: what he sends, and no more.
    :param patient: whether he goes on reading.
    """

    port: int
    sent: bytes
    patient: bool
    connection: socket.socket | None = None
    read: int = 0

    def turn(self) -> None:
        """Come, or read a little."""
        try:
            if self.connection is None:
                self._come()
            elif not (data := self.connection.recv(MOUTHFUL)) or not self.patient:
                self._leave()
            else:
                self.read += len(data)
        except BlockingIOError:
            pass
        except OSError:
            self._leave()

    def _come(self) -> None:
        made = socket.socket()
        made.settimeout(5)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * MOUTHFUL)
        self.connection = made
        made.connect(("127.0.0.1", self.port))
        made.sendall(self.sent)
        made.setblocking(False)

    def _leave(self) -> None:
        if self.connection is not None:
            self.connection.close()
        self.connection = None


@contextmanager
def crowd(
    port: int, half_open: int = 0, blob: str = "", readers: int = 0, images: Sequence[str] = ()
) -> Iterator[None]:
    """Have a crowd at a daemon for the length of a block.

    :param half_open: connections that never send a whole request.
    :param blob: the path that so many ``readers`` load slowly.
    :param images: paths that are asked for again and again.
    """
    members = [
        *([HALF, False] for _ in range(half_open)),
        *([WHOLE.format(path=blob), True] for _ in range(readers)),
        *([WHOLE.format(path=path), False] for path in images),
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.e2e.crowd", str(port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process:
        try:
            process.stdin.write(json.dumps(members).encode("ascii") + b"\n")
            process.stdin.flush()
            assert process.stdout.readline() == b"here\n"
            yield
            assert process.poll() is None, "the crowd went home"
        finally:
            process.kill()


def main() -> None:
    """Be the crowd, until the process is ended."""
    port = int(sys.argv[1])
    each = json.loads(sys.stdin.readline())
    members = [_Member(port, sent.encode("ascii"), patient) for sent, patient in each]
    for member in members:
        member.turn()
    readers = [member for member in members if member.patient]
    while not all(member.read for member in readers):
        for member in readers:
            member.turn()
        time.sleep(0.01)
    print("here", flush=True)
    while True:
        for member in members:
            member.turn()
        time.sleep(TURN)


if __name__ == "__main__":
    main()
