"""What a daemon that goes to the background says in the terminal."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from nixery.terminal import Terminal
from tests.programs import make_programs
from tests.waiting import HUNG, wait_until_gone

TOP = Path(__file__).resolve().parents[1]
TWISTD = str(Path(sys.executable).with_name("twistd"))


def twistd(folder: Path, port: int) -> subprocess.CompletedProcess[str]:
    """``twistd nixery`` in a folder, with fakes of Nix's programs; it goes to the background."""
    environ = {
        "PATH": f"{make_programs(folder / 'programs')}:{os.environ['PATH']}",
        "HOME": str(folder),
        "PYTHONPATH": str(TOP),
        "STATE_DIRECTORY": str(folder / "state"),
        "NIXERY_NIX_STORE": str(folder / "store"),
        "NIXERY_PKGS_PATH": str(folder / "programs"),
        "NIXERY_LISTEN": f"tcp:{port}:interface=127.0.0.1",
    }
    return subprocess.run(
        [TWISTD, "nixery"], cwd=folder, env=environ, capture_output=True, text=True, timeout=HUNG
    )


@pytest.mark.program
def test_it_has_started(tmp_path: Path) -> None:
    """The command ends with 0 when the daemon listens, and says where, and where its log is."""
    ran = twistd(tmp_path, 0)
    pid = int((tmp_path / "twistd.pid").read_text())
    try:
        assert ran.returncode == 0, ran.stderr
        words = ran.stderr.removeprefix("nixery: listening on localhost:")
        port, _, rest = words.partition(", ")
        assert rest == f"process {pid} (log: {tmp_path}/twistd.log)\n"
        with socket.create_connection(("127.0.0.1", int(port))):
            pass
    finally:
        daemon = psutil.Process(pid)
        daemon.send_signal(signal.SIGTERM)
        wait_until_gone([daemon])


@pytest.mark.program
def test_it_could_not_start(tmp_path: Path) -> None:
    """The command ends with 1 where the daemon can't listen, and says why; no file is left that
    says that it runs."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ran = twistd(tmp_path, port)
    assert ran.returncode == 1
    assert ran.stderr.startswith(f"nixery: cannot start: port {port} is in use")
    assert f"cannot start: port {port} is in use" in (tmp_path / "twistd.log").read_text()
    assert not (tmp_path / "twistd.pid").exists()


@pytest.mark.parametrize("started", [True, False])
def test_once(started: bool, capfd: pytest.CaptureFixture[str]) -> None:
    """The pipe that twistd waits at is told once how the start ended, and closed."""
    reading, writing = os.pipe()
    config: dict[str, int] = {"statusPipe": writing, "nodaemon": False}
    terminal = Terminal(config)
    terminal.hold()
    assert config["statusPipe"] != writing
    os.write(config["statusPipe"], b"0")  # as twistd does
    for _ in range(2):
        if started:
            terminal.started("listening")
        else:
            terminal.failed("no")
    with os.fdopen(reading, "rb") as pipe:
        assert pipe.read() == (b"0" if started else b"1 it could not start")
    os.close(config["statusPipe"])
    assert len(capfd.readouterr().err.splitlines()) == 1


def test_in_the_foreground(capfd: pytest.CaptureFixture[str]) -> None:
    """A daemon that stays in the terminal says nothing there but its log."""
    for config in (None, {"nodaemon": True}):
        terminal = Terminal(config)
        terminal.hold()
        terminal.started("listening")
        terminal.failed("no")
        terminal.remove_pid()
    assert capfd.readouterr() == ("", "")
