"""The README's commands, pasted one after the other on a machine on which nothing is installed.

``make readme-test``: it takes some minutes. Clients run on this machine, all else on the fresh one.
"""

import os
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from tests.e2e.clients import Docker, Ran, run
from tests.e2e.fresh import Fresh, fresh_machine
from tests.ports import free_port
from tests.readme import Command, commands
from tests.waiting import HUNG, wait_until

pytestmark = [pytest.mark.fresh, pytest.mark.real_nix, pytest.mark.real_client]

_FETCHES = "fetches a package set from elsewhere: tests/e2e/test_remotes.py, test_sources.py"
_BOOTED = "takes systemd as process 1: tests/e2e/test_units.py"
_CONTAINER = "make container-test"
NOT_PASTED = {
    "NIXERY_CHANNEL=nixos-unstable make run": _FETCHES,
    "NIXERY_PKGS_REPO=https://example.com/packages.git make run": _FETCHES,
    "NIXERY_PKGS_PATH=$HOME/packages make run": _FETCHES,
    "NIXERY_FLAKE=github:example/packages make run": _FETCHES,
    "docker login localhost:8080 -u alice": "asks at a terminal: tests/e2e/test_auth.py",
    "systemctl daemon-reload": _BOOTED,
    "systemctl enable --now nixery.socket nixery.service": _BOOTED,
    "curl localhost:8080/readyz": _BOOTED,
    "docker build -t nixery .": _CONTAINER,
    "docker run -p 8080:8080 -v nixery-nix:/nix -v nixery-state:/var/lib/nixery nixery": _CONTAINER,
    "make test": "is what runs the tests",
}
"""Commands that this test leaves out, and why it may."""
_CLIENTS = ("docker", "podman", "skopeo", "curl")
_CHANGES = re.compile(r"[0-9a-f]{16,}|\d+(\.\d+)+")
"""What is another on another day: addresses, versions."""
# podman's own limits may be higher than those of this machine.
_CONTAINERS = """
[containers]
netns = "none"
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
tmp_dir = "{home}/tmp"
lock_type = "file"
"""
_STORAGE = '[storage]\ndriver = "vfs"\ngraphroot = "{home}/root"\nrunroot = "{home}/run"\n'


class Pasting:
    """A reader who pastes commands, one after the other."""

    def __init__(self, machine: Fresh, docker: Docker, home: Path) -> None:
        self.machine = machine
        self.port = str(free_port())
        self._docker = docker
        self._home = home
        (home / "containers.conf").write_text(_CONTAINERS.format(home=home))
        (home / "storage.conf").write_text(_STORAGE.format(home=home))

    def paste(self, command: Command) -> None:
        """Run a command, which has to print what the README shows, as far as days don't matter."""
        text = command.text.replace("8080", self.port)
        began = time.monotonic()
        ran = self._here(text) if text.startswith(_CLIENTS) else self.machine(text, "geheim\n" * 2)
        print(f"{time.monotonic() - began:6.1f} s  {command.text}")
        shown = [line for line in command.output.replace("8080", self.port).splitlines() if line]
        assert (ran.code == 0) == (not any("Error" in line for line in shown)), ran.output
        for line in shown:
            assert _CHANGES.sub("", line) in _CHANGES.sub("", ran.output), ran.output

    def _here(self, text: str) -> Ran:
        """Run a client on this machine, with an engine and a storage of its own."""
        # podman reads docker's file, which it wants to be there if its folder is named.
        (self._home / "config.json").write_text("{}")
        # The engine of the tests has no network for containers.
        return run(
            ["bash", "-c", text.replace("docker run ", "docker run --network=none ")],
            DOCKER_HOST=f"unix://{self._docker.socket}",
            DOCKER_CONFIG=str(self._home),
            CONTAINERS_CONF=str(self._home / "containers.conf"),
            CONTAINERS_STORAGE_CONF=str(self._home / "storage.conf"),
        )

    @contextmanager
    def in_another_terminal(self, command: Command) -> Iterator[None]:
        """Have the daemon run for a while, from when it says that it is ready."""
        log = self._home / f"log-{time.monotonic_ns()}"
        began = time.monotonic()
        with log.open("wb") as file:
            text = f"export PORT={self.port}; {command.text}"
            process = subprocess.Popen(
                self.machine.inside(f"exec bash -c {_quoted(text)}"),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        try:
            ready = f"ready; try: docker pull localhost:{self.port}/"
            wait_until(lambda: process.poll() is not None or ready in log.read_text())
            assert process.poll() is None, log.read_text()
            print(f"{time.monotonic() - began:6.1f} s  {command.text}\n{log.read_text()}")
            yield
        finally:
            for each in psutil.Process(process.pid).children(recursive=True):
                _end_daemon(each)
            process.wait(timeout=HUNG)


def _end_daemon(process: psutil.Process) -> None:
    with suppress(psutil.NoSuchProcess):
        if {"--nodaemon", "nixery"} <= set(process.cmdline()):
            process.terminate()


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


@pytest.fixture(
    params=[("bookworm", "/root/nixery"), ("trixie", "/root/my registry/nixery")],
    ids=["bookworm", "trixie, a space in the path"],
)
def pasting(docker: Docker, request: pytest.FixtureRequest) -> Iterator[Pasting]:
    """A reader at a fresh Debian."""
    with fresh_machine(*request.param) as machine, tempfile.TemporaryDirectory(prefix="p-") as home:
        yield Pasting(machine, docker, Path(home))


def test_pasted_in_order(pasting: Pasting) -> None:
    """Every command does what the README shows, in its order: first those for trying it, at a
    daemon that ``make run`` has started; then those for users and for installing it."""
    left = [command for command in commands() if command.text not in NOT_PASTED]
    _, *left = left  # what it is about, before anything is installed
    while left:
        command, left = left[0], left[1:]
        if not command.text.endswith("make run"):
            pasting.paste(command)
            continue
        clients = [each for each in left if each.text.startswith(_CLIENTS)]
        with pasting.in_another_terminal(command):
            if "HTPASSWD" in command.text:
                asked = f"http://localhost:{pasting.port}/v2/"
                answer = run(["curl", "-s", "-o", os.devnull, "-w", "%{http_code}", asked])
                assert answer.output == "401"
                continue
            for each in clients:
                pasting.paste(each)
            print(pasting.machine("du -sh .venv ~/.local/state/nixery/*").output)
            left = [each for each in left if each not in clients]
    said = pasting.machine("make clean").output
    assert "left: /root/.local/state/nixery" in said
    assert pasting.machine("test ! -e .venv").code == 0
