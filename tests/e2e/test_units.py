"""systemd's units: what they say, what systemd thinks of them, and how the daemon runs in them."""

import configparser
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from nixery.settings import Settings
from tests.e2e.clients import run
from tests.e2e.machine import Machine, machine
from tests.e2e.packages import TOP, PackageSet
from tests.waiting import HUNG, wait_until

UNITS = TOP / "systemd"
EXPOSURE = 2.5
"""What ``systemd-analyze security`` may say at most; 0 is best, 10 is worst."""


class Unit(configparser.RawConfigParser):
    """A unit file; of a name that is there twice, the last counts."""

    def __init__(self, path: Path) -> None:
        super().__init__(strict=False, delimiters=("=",), comment_prefixes=("#",))
        self.optionxform = str  # type: ignore[assignment,method-assign]
        self.read(path)


@pytest.fixture
def verifiable(tmp_path: Path) -> Path:
    """The units in a folder, with a program that is there on this machine too."""
    for unit in ("nixery.service", "nixery.socket"):
        text = (UNITS / unit).read_text()
        (tmp_path / unit).write_text(text.replace("/opt/nixery/bin/twistd", "/bin/true"))
    return tmp_path


def test_systemd_finds_no_fault(verifiable: Path) -> None:
    """``systemd-analyze verify`` has nothing to say."""
    units = [str(verifiable / unit) for unit in ("nixery.service", "nixery.socket")]
    verified = run(["systemd-analyze", "verify", "--man=no", *units])
    assert (verified.code, verified.output) == (0, "")


def test_little_is_exposed(verifiable: Path) -> None:
    """``systemd-analyze security`` finds the service hardly exposed."""
    limit = f"--threshold={round(EXPOSURE * 10)}"
    service = str(verifiable / "nixery.service")
    rated = run(["systemd-analyze", "security", "--offline=true", "--no-pager", limit, service])
    print(rated.output.splitlines()[-1])
    assert rated.code == 0, rated.output


def test_a_stop_has_time_for_all_it_does() -> None:
    """systemd waits longer for the daemon's end than answers in flight get."""
    drain = Settings.from_environ({}).stopping.drain
    assert int(Unit(UNITS / "nixery.service")["Service"]["TimeoutStopSec"]) > drain + 15


def test_the_command_talks_to_the_manager(package_set: PackageSet, tmp_path: Path) -> None:
    """The unit's command takes the socket that it inherits, says when it is ready, goes on
    saying that it lives, reads again at HUP, says that it stops, and ends with exit code 0."""
    service = Unit(UNITS / "nixery.service")["Service"]
    command = shlex.split(service["ExecStart"])
    command[0] = str(Path(sys.executable).with_name(Path(command[0]).name))
    environ = {
        **package_set.environ,
        **{"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
        "STATE_DIRECTORY": str(tmp_path / "state"),
        **{"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "200000"},
        **{"LISTEN_FDS": "1", "LISTEN_FDNAMES": "nixery.socket", "PYTHONPATH": str(TOP)},
    }
    inherit = 'exec 3<&"$0"; export LISTEN_PID=$$ WATCHDOG_PID=$$; exec "$@"'
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(environ["NOTIFY_SOCKET"])
        manager.settimeout(HUNG)
        with socket.create_server(("::1", 0), family=socket.AF_INET6) as held:
            process = subprocess.Popen(
                ["bash", "-c", inherit, str(held.fileno()), *command],
                cwd="/",
                env=environ,
                pass_fds=[held.fileno()],
            )
            try:
                _told(manager, "READY=1")
                where = f"http://[::1]:{held.getsockname()[1]}"
                answer = run(["curl", "--silent", "--fail", f"{where}/v2/"])
                assert answer.code == 0, answer.output
                for _ in range(3):
                    _told(manager, "WATCHDOG=1")
                process.send_signal(signal.SIGHUP)
                _told(manager, "WATCHDOG=1")
                process.send_signal(signal.SIGTERM)
                _told(manager, "STOPPING=1")
                assert process.wait(timeout=HUNG) == 0
            finally:
                process.kill()
                process.wait()


def _told(manager: socket.socket, word: str) -> None:
    """Read what the daemon tells until it says a word; fails after the socket's time limit."""
    while word not in manager.recv(4096).decode().splitlines():
        pass


@pytest.fixture(scope="module")
def booted(package_set: PackageSet) -> Iterator[Machine]:
    """A machine whose systemd runs the units; they are not started yet."""
    with machine(package_set) as booted:
        booted.ok("systemctl", "start", "nixery.socket")
        yield booted


def manifest(booted: Machine, name: str) -> str:
    """The digest of an image, pulled on the machine with all its blobs."""
    script = """
        set -eu
        base=http://localhost:8080/v2/$0
        curl --silent --show-error --fail --location --max-redirs 100 --output "$1" \
            --dump-header "$1.headers" "$base/manifests/latest"
        for digest in $(grep -o 'sha256:[0-9a-f]*' "$1" | sort -u); do
            got=$(curl --silent --show-error --fail "$base/blobs/$digest" | sha256sum)
            test "sha256:${got%% *}" = "$digest"
        done
        sed -n 's/^Docker-Content-Digest: //pI' "$1.headers" | tail -n 1
    """
    beside = f"/tmp/{name.replace('/', '-')}-{id(object())}"
    return booted.ok("bash", "-c", script, name, beside).strip()


@pytest.mark.real_nix
def test_a_connection_starts_it(booted: Machine) -> None:
    """The first connection starts the service, and it makes an image: Nix builds in sandboxes
    within the unit's, in a store of its own in the state folder."""
    assert booted.show("ActiveState") == "inactive"
    assert manifest(booted, "shell/hello").startswith("sha256:")
    assert booted.show("ActiveState") == "active"
    assert "building hello" in booted.journal()
    assert booted.ok("ls", "/var/lib/nixery/nix/nix/store")


@pytest.mark.real_nix
def test_it_has_no_rights(booted: Machine) -> None:
    """It runs as its own user, who may gain nothing."""
    manifest(booted, "hello")
    status = booted.ok("cat", f"/proc/{booted.show('MainPID')}/status")
    fields = dict(line.split(":\t", 1) for line in status.splitlines())
    user = booted.ok("id", "--user", "nixery").strip()
    assert fields["Uid"].split() == [user] * 4
    assert int(fields["CapBnd"], 16) == int(fields["CapEff"], 16) == 0
    assert fields["NoNewPrivs"] == "1"
    assert fields["Seccomp"] == "2"


@pytest.mark.real_nix
def test_a_restart_loses_no_pull(booted: Machine) -> None:
    """Twenty clients pull while systemd restarts the service: all get the same whole image."""
    before = manifest(booted, "jq")
    with ThreadPoolExecutor(21) as clients:
        restarting = clients.submit(booted.ok, "systemctl", "restart", "nixery")
        pulls = [clients.submit(manifest, booted, "jq") for _ in range(20)]
        assert {pull.result() for pull in pulls} == {before}
        restarting.result()


@pytest.mark.real_nix
def test_a_reload_is_no_restart(booted: Machine) -> None:
    """``systemctl reload`` leaves the daemon running."""
    manifest(booted, "hello")
    process = booted.show("MainPID")
    booted.ok("systemctl", "reload", "nixery")
    manifest(booted, "hello")
    assert booted.show("MainPID") == process


@pytest.mark.real_nix
def test_settings_are_checked_without_a_start(booted: Machine) -> None:
    """What the runbook says to try settings with sees those of the service, as its user."""
    runbook = (TOP / "docs" / "runbook.md").read_text("utf-8")
    check, look = re.findall(r"^\$ (.*nixery-check.*)$", runbook, re.MULTILINE)
    booted.ok(*shlex.split(check))
    wait_until(lambda: "listens on" in booted(*shlex.split(look)).output)
    said = booted.ok(*shlex.split(look))
    assert "the folder /opt/layer/packages/test-pkgs" in said
    assert "/var/lib/nixery" in said


@pytest.mark.real_nix
def test_a_daemon_that_hangs_is_replaced(booted: Machine) -> None:
    """A daemon that does not move is found by the watchdog and started anew; clients that come
    meanwhile wait."""
    hurry = "[Service]\\nWatchdogSec=10\\nTimeoutAbortSec=2\\n"
    place = "/run/systemd/system/nixery.service.d"
    booted.ok("bash", "-c", f"mkdir -p {place}; printf '{hurry}' > {place}/hurry.conf")
    booted.ok("systemctl", "daemon-reload")
    booted.ok("systemctl", "restart", "nixery")
    process = booted.show("MainPID")
    booted.ok("kill", "-STOP", process)
    wait_until(lambda: booted.show("MainPID") not in ("0", process))
    assert manifest(booted, "hello").startswith("sha256:")
    assert int(booted.show("NRestarts")) > 0
