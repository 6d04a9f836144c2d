"""What a service manager tells the daemon, and is told by it."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from nixery.systemd import Notifier, inherited_endpoint


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """A service manager's socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.setblocking(False)
        yield listening


def heard(manager: socket.socket) -> list[str]:
    """What it was told since it was asked last."""
    words = []
    while True:
        try:
            words.append(manager.recv(4096).decode())
        except BlockingIOError:
            return words


def test_ready_watched_and_stopping(manager: socket.socket) -> None:
    """It is told when requests are taken and when no more are; the watchdog hears from the
    reactor twice in each of its periods, while it stops too."""
    clock = Clock()
    environ = {"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "10000000"}
    notifier = Notifier(clock, environ)
    clock.advance(20)
    assert heard(manager) == []
    notifier.ready("up")
    assert heard(manager) == ["READY=1\nSTATUS=up", "WATCHDOG=1"]
    clock.pump([4.9, 0.1, 5])
    assert heard(manager) == ["WATCHDOG=1"] * 2
    notifier.tell_status("well")
    assert heard(manager) == ["STATUS=well"]
    notifier.stopping("going")
    clock.advance(5)
    assert heard(manager) == ["STOPPING=1\nSTATUS=going", "WATCHDOG=1"]
    notifier.stop()
    clock.advance(50)
    assert heard(manager) == []


def test_a_watchdog_of_another_process(manager: socket.socket) -> None:
    """Who is not meant does not answer for who is."""
    clock = Clock()
    environ = {"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "1", "WATCHDOG_PID": "1"}
    Notifier(clock, environ).ready("up")
    clock.advance(1)
    assert heard(manager) == ["READY=1\nSTATUS=up"]


def test_names_of_the_kernel() -> None:
    """A socket without a file is reached too."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(f"\0nixery-test-{os.getpid()}")
        listening.setblocking(False)
        Notifier(Clock(), {"NOTIFY_SOCKET": f"@nixery-test-{os.getpid()}"}).ready("up")
        assert heard(listening) == ["READY=1\nSTATUS=up"]


def test_nobody_listens(tmp_path: Path) -> None:
    """Without a service manager, nothing happens; one that is gone is noted once,
    and hurts nobody."""
    with capturedLogs() as captured:
        Notifier(Clock(), {}).ready("up")
    assert not captured
    with capturedLogs() as captured:
        notifier = Notifier(Clock(), {"NOTIFY_SOCKET": str(tmp_path / "gone")})
        for _ in range(3):
            notifier.tell_status("up")
    assert len(captured) == 1


ASK = "from nixery.systemd import inherited_endpoint as e; print(e())"


@pytest.mark.parametrize(
    ("family", "expected"),
    [
        (socket.AF_INET, "systemd:domain=INET:index=0"),
        (socket.AF_INET6, "systemd:domain=INET6:index=0"),
        (socket.AF_UNIX, "systemd:domain=UNIX:index=0"),
    ],
)
def test_an_inherited_socket(tmp_path: Path, family: int, expected: str) -> None:
    """A socket that systemd holds is taken, of whichever family; one that is meant for another
    process is not."""
    with socket.socket(family) as listening:
        listening.bind(str(tmp_path / "s") if family == socket.AF_UNIX else ("", 0))
        listening.listen()
        assert ask(listening, "$$") == expected
        assert ask(listening, "1") == "None"


def ask(listening: socket.socket, pid: str) -> str:
    """What a process makes of a socket that it inherits, and that is meant for some process."""
    command = f'exec 3<&{listening.fileno()}; LISTEN_PID={pid} exec {sys.executable} -c "{ASK}"'
    return subprocess.run(
        ["bash", "-c", command],
        env={**os.environ, "LISTEN_FDS": "1", "LISTEN_FDNAMES": "nixery.socket"},
        pass_fds=[listening.fileno()],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()


def test_no_inherited_socket() -> None:
    """Where no service manager holds a socket, there is none."""
    assert inherited_endpoint() is None
