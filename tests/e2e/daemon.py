"""The daemon as a process of its own, as operators run it."""

import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import psutil

from tests.waiting import HUNG, wait_until

TWISTD = str(Path(sys.executable).with_name("twistd"))
LISTENING = re.compile(r"listening on localhost:(\d+)")
READY = re.compile(r"\] ready(?:; try: docker pull localhost:\d+/(\S+))?\n")

ACCEPT = "application/vnd.oci.image.manifest.v1+json"


@attrs.frozen
class Answer:
    """An HTTP answer, read to its end."""

    status: int
    reason: str
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@attrs.define
class Daemon:
    """A running ``twistd nixery``.

    :param state: its state folder.
    :param shims: a folder in front of its ``PATH`` whose ``nix-build`` and ``git`` count and go on.
    :param environ: its environment.
    :param expected: words of the only failures that it may log.
    """

    process: subprocess.Popen[bytes]
    port: int
    state: Path
    shims: Path
    log_file: Path
    environ: Mapping[str, str]
    expected: str | None = None

    @property
    def host(self) -> str:
        return f"localhost:{self.port}"

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    @property
    def failures(self) -> list[str]:
        """What it has logged with a traceback, and was not expected."""
        found = re.findall(r"Traceback.*?(?=^\d{4}-|\Z)", self.log, re.DOTALL | re.MULTILINE)
        return [each for each in found if self.expected is None or self.expected not in each]

    @property
    def nix_builds(self) -> int:
        """How often Nix was started to make something, the trial at the start aside."""
        return self._started("nix-build")

    def git_runs(self) -> int:
        """How often git was started, once that of the start itself is over."""
        self.until_ready()
        return self._started("git")

    def _started(self, program: str) -> int:
        counter = self.shims / f"{program}.count"
        return len(counter.read_text().splitlines()) if counter.exists() else 0

    @property
    def storage(self) -> Path:
        return self.state / "storage"

    def get(self, path: str, method: str = "GET", timeout: float = HUNG, **headers: str) -> Answer:
        """Ask, without following redirects."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request(method, path, headers={"Accept": ACCEPT, **headers})
            answer = connection.getresponse()
            return Answer(answer.status, answer.reason, dict(answer.headers), answer.read())
        finally:
            connection.close()

    def until_ready(self) -> str | None:
        """Wait until it has found all to be ready, for which it builds and evaluates.

        :return: the name of the image that it says can be pulled, if it does.
        """
        wait_until(lambda: READY.search(self.log))
        return READY.findall(self.log)[0] or None

    def leave(self, path: str, begun: Callable[[], object] | None = None) -> None:
        """Ask while nobody else does, leave without the answer when the daemon has begun with it,
        and wait until it has noticed.

        :param begun: what is so then; none for an answer that is under way.
        """
        with socket.create_connection(("127.0.0.1", self.port), timeout=HUNG) as client:
            client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            wait_until(begun or (lambda: self.requests_running() == 1))
        wait_until(lambda: self.requests_running() == 0)

    def requests_running(self) -> int:
        """How many requests are being answered, besides the one that asks."""
        return int(self.metric("nixery_requests_running")) - 1

    def metric(self, name: str) -> float:
        """A value of ``/metrics``."""
        lines = self.get("/metrics").body.decode().splitlines()
        (value,) = [line.removeprefix(f"{name} ") for line in lines if line.startswith(f"{name} ")]
        return float(value)

    def pull(self, name: str, tag: str = "latest", accept: str = ACCEPT) -> Answer:
        """Ask for a manifest as clients do, following redirects.

        :param accept: the media types that the client takes.
        """
        path = f"/v2/{name}/manifests/{tag}"
        for _ in range(10):
            answer = self.get(path, Accept=accept)
            if answer.status != 307:
                return answer
            path = answer.headers["Location"]
        raise AssertionError("more redirects than clients follow")

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it and say with which exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(timeout=HUNG)


def _count_starts(shims: Path) -> None:
    shims.mkdir(parents=True, exist_ok=True)
    for program in ("nix-build", "git"):
        shim = shims / program
        shim.write_text(
            "#!/bin/sh\n"
            f'case "$*" in *nixery-trial-*) ;; *) echo >> {shims}/{program}.count ;; esac\n'
            f'exec {shutil.which(program)} "$@"\n'
        )
        shim.chmod(0o755)


@contextmanager
def running(
    state: Path,
    environ: Mapping[str, str],
    held: socket.socket | None = None,
    before: Sequence[str] = (),
) -> Iterator[Daemon]:
    """Run the daemon on a free port until the block ends.

    :param held: a socket that it inherits instead, as from systemd.
    :param before: a command that becomes the one behind it.
    """
    # Beside the state folder, which is the daemon's own.
    beside = state.with_name(f"{state.name}-of-the-tests")
    shims = beside / "shims"
    _count_starts(shims)
    log_file = beside / f"daemon-{time.monotonic_ns()}.log"
    environment = {
        **os.environ,
        "STATE_DIRECTORY": str(state),
        "PORT": "0",
        "NIXERY_DRAIN": "1",
        # The tests share a store, on a disk that is what it is.
        "NIXERY_NIX_MIN_FREE": "0",
        **environ,
        "PATH": f"{shims}:{os.environ['PATH']}",
    }
    with log_file.open("wb") as log:
        command = [TWISTD, "--nodaemon", "--pidfile=", "nixery"]
        if held is not None:
            environment |= {"LISTEN_FDS": "1", "LISTEN_FDNAMES": "nixery.socket"}
            inherit = f'exec 3<&{held.fileno()}; export LISTEN_PID=$$; exec "$@"'
            command = ["bash", "-c", inherit, "bash", *command]
        process = subprocess.Popen(
            [*before, *command],
            cwd="/",
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            pass_fds=[] if held is None else [held.fileno()],
        )
    daemon = Daemon(process, 0, state, shims, log_file, environment)
    try:
        daemon.port = _wait_for_port(daemon)
        yield daemon
    finally:
        if process.poll() is None:
            process.terminate()
        try:
            process.wait(timeout=HUNG)
        except BaseException:  # it hangs, or so does the test, whose time is over
            process.kill()
            process.wait()
            raise
    assert not daemon.failures, daemon.log


def _wait_for_port(daemon: Daemon) -> int:
    wait_until(lambda: LISTENING.search(daemon.log) or daemon.process.poll() is not None)
    match = LISTENING.search(daemon.log)
    assert match is not None, f"the daemon did not start:\n{daemon.log}"
    return int(match[1])
