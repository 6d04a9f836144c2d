"""The load on servers that are measured."""

import hashlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import attrs
import pytest

from benchmarks.load import AnswerWrong, Load, run

_BODY = b"some bytes"
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"
_REQUEST = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


@contextmanager
def server(answer: bytes) -> Iterator[int]:
    """A server that answers everything the same, and then closes; its port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            with suppress(OSError):  # it is closed
                while True:
                    connection, _ = listening.accept()
                    with connection:
                        connection.recv(1000)
                        connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()


def load(port: int, length: int | None = 10) -> Load:
    digest = hashlib.sha256(_BODY).hexdigest()
    return Load(port, _REQUEST, length, digest, connections=2, renewed=True, seconds=0.1)


@pytest.mark.parametrize("length", [10, None])
def test_answers_are_counted(length: int | None) -> None:
    """What came is counted, with its bytes where their number is known."""
    with server(_HEAD + _BODY) as port:
        done = run(load(port, length))
    assert done.answers >= 2
    assert done.bytes == done.answers * (length or 0)
    assert done.seconds > 0.1


def test_heads_alone() -> None:
    """HEAD announces a body that does not come."""
    with server(_HEAD) as port:
        asked = attrs.evolve(load(port), request=_REQUEST.replace("GET", "HEAD"), digest=None)
        assert run(asked).bytes == 0


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        _HEAD + _BODY[:-1],
        _HEAD + _BODY + b"!",
        _HEAD + b"other byte",
        _HEAD.replace(b"200 OK", b"404 Not Found") + _BODY,
        _HEAD.replace(b"10", b"9") + _BODY[:-1],
    ],
    ids=["none", "short", "long", "altered", "refused", "another length"],
)
def test_wrong_answers(answer: bytes) -> None:
    """A server whose answers are wrong has no rate."""
    with server(answer) as port, pytest.raises(AnswerWrong):
        run(load(port))
