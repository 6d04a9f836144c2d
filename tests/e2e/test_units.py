"""The units of systemd, as far as they can be tried without it."""

import os
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nixery.variables import VARIABLES
from tests.e2e.clients import run
from tests.e2e.daemon import wait_until
from tests.e2e.packages import PackageSet

UNITS = Path(__file__).parents[2] / "systemd"
SERVICE = UNITS / "nixery.service"
WORST = 2.5
"""The exposure that systemd may find at most."""


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The units, where the installed program is one that is there."""
    for name in ("nixery.service", "nixery.socket"):
        text = (UNITS / name).read_text().replace("/opt/nixery/bin/twistd", sys.executable)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_systemd_understands_them(installed: Path) -> None:
    """systemd finds no fault with the units."""
    units = [str(installed / name) for name in ("nixery.service", "nixery.socket")]
    done = run(["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", *units])
    assert done.code == 0, done.output
    assert done.output.strip() == ""


def test_locked_in(installed: Path) -> None:
    """The service may do little more than Nix needs."""
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager"]
    done = run([*command, str(installed / "nixery.service")])
    found = re.search(r"Overall exposure level for nixery.service: ([0-9.]+)", done.output)
    assert found, done.output
    assert float(found[1]) <= WORST


def settings(section: str) -> dict[str, str]:
    """The settings of a section of the service's unit, the last one of each name."""
    text = SERVICE.read_text().partition(f"[{section}]")[2].partition("\n[")[0]
    lines = [line for line in text.splitlines() if "=" in line and not line.startswith("#")]
    return {name: value for name, _, value in (line.partition("=") for line in lines)}


class Manager:
    """Does for a service what systemd would: holds its socket, and hears what it says."""

    def __init__(self, folder: Path, held: socket.socket, environ: dict[str, str]) -> None:
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.bind(str(folder / "notify"))
        self._notify.settimeout(60)
        self._held = held
        self._environ = {
            **os.environ,
            **environ,
            "STATE_DIRECTORY": str(folder / "state"),
            "NOTIFY_SOCKET": str(folder / "notify"),
            "WATCHDOG_USEC": "1000000",
            "LISTEN_FDS": "1",
            "LISTEN_FDNAMES": "nixery.socket",
        }
        self.port = held.getsockname()[1]

    def start(self) -> "subprocess.Popen[bytes]":
        """Run what ExecStart says, out of the environment of the tests."""
        command = shlex.split(settings("Service")["ExecStart"])
        command[0] = str(Path(sys.executable).with_name(Path(command[0]).name))
        inherit = f'exec 3<&{self._held.fileno()}; export LISTEN_PID=$$; exec "$@"'
        return subprocess.Popen(
            ["bash", "-c", inherit, "bash", *command],
            cwd="/",
            env=self._environ,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[self._held.fileno()],
        )

    def heard(self, words: str) -> None:
        """Wait until the service has said something."""
        while not self._notify.recv(4096).decode().startswith(words):
            pass

    def close(self) -> None:
        self._notify.close()


@pytest.fixture
def held() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


@pytest.mark.real_nix
def test_run_as_systemd_would(tmp_path: Path, package_set: PackageSet, held: socket.socket) -> None:
    """What the unit starts takes the socket that it inherits, says when it is ready, answers the
    watchdog, says when it stops, and exits with 0; who asks meanwhile is answered by the next."""
    manager = Manager(tmp_path, held, package_set.environ)
    assert settings("Service")["Type"] == "notify"
    service = manager.start()
    try:
        manager.heard("READY=1")
        manager.heard("WATCHDOG=1")
        assert _answers(manager.port)
        service.terminate()
        manager.heard("STOPPING=1")
        assert service.wait(timeout=20) == 0
        with socket.create_connection(("127.0.0.1", manager.port)) as waiting:
            waiting.sendall(b"GET /healthz HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
            service = manager.start()
            waiting.settimeout(30)
            assert waiting.recv(100).startswith(b"HTTP/1.1 200")
    finally:
        service.terminate()
        wait_until(lambda: service.poll() is not None)
        manager.close()
    assert service.returncode == 0


def _answers(port: int) -> bool:
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        client.sendall(b"GET /v2/ HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        return client.recv(100).startswith(b"HTTP/1.1 200")


def test_stopping_has_time() -> None:
    """systemd waits for longer than the daemon does for answers in flight."""
    drain = next(v for v in VARIABLES if v.name == "NIXERY_DRAIN").default
    assert int(settings("Service")["TimeoutStopSec"]) > int(drain) + 10
