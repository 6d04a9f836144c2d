"""Container clients: podman, and Docker with an engine of the tests' own."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs

START_LIMIT = 60


@attrs.frozen
class Ran:
    """A command that ended: all that it printed, and its exit code."""

    code: int
    output: str


def run(argv: list[str], timeout: float = 300, **environ: str) -> Ran:
    """Run a command to its end, its two outputs as one."""
    done = subprocess.run(
        argv,
        cwd="/",  # Python finds nothing of a checkout there
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        timeout=timeout,
        env={**os.environ, **environ},
        check=False,
    )
    return Ran(done.returncode, done.stdout.decode("utf-8", "replace"))


@attrs.frozen
class Docker:
    """A Docker client and the engine it talks to."""

    socket: Path

    def __call__(self, *arguments: str, timeout: float = 300) -> Ran:
        program = "/usr/bin/docker" if os.path.exists("/usr/bin/docker") else "docker"
        return run(
            [program, *arguments],
            timeout,
            DOCKER_HOST=f"unix://{self.socket}",
            DOCKER_CONFIG=str(self.socket.parent),
        )

    def ok(self, *arguments: str, timeout: float = 300) -> str:
        """The output of a command that must succeed."""
        ran = self(*arguments, timeout=timeout)
        assert ran.code == 0, f"docker {' '.join(arguments)}: {ran.output}"
        return ran.output

    def run(self, image: str, *command: str, options: tuple[str, ...] = ()) -> str:
        """What a command in a container of an image prints."""
        return self.ok("run", "--rm", "--network=none", *options, image, *command)

    def ctr(self, *arguments: str) -> Ran:
        """Run a command of containerd's own client, at the engine's containerd."""
        address = self.socket.parent / "exec" / "containerd" / "containerd.sock"
        return run(["ctr", f"--address={address}", *arguments])


@attrs.frozen
class Podman:
    """podman with a storage of its own."""

    home: Path

    def __call__(self, *arguments: str) -> Ran:
        places = ["--root", str(self.home / "root"), "--runroot", str(self.home / "run")]
        return run(["podman", *places, "--storage-driver=vfs", *arguments])

    def ok(self, *arguments: str) -> str:
        """The output of a command that must succeed."""
        ran = self(*arguments)
        assert ran.code == 0, f"podman {' '.join(arguments)}: {ran.output}"
        return ran.output


@contextmanager
def podman_storage() -> Iterator[Podman]:
    """A podman storage for a while; podman refuses long paths."""
    home = Path(tempfile.mkdtemp(prefix="nixery-podman-"))
    try:
        yield Podman(home)
    finally:
        shutil.rmtree(home, ignore_errors=True)


@contextmanager
def engine() -> Iterator[Docker]:
    """Run a Docker engine without networks for containers; needs root."""
    # UNIX sockets' paths are short, pytest's folders are not.
    home = Path(tempfile.mkdtemp(prefix="nixery-docker-"))
    socket = home / "docker.sock"
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                shutil.which("dockerd", path=f"{os.environ['PATH']}:/usr/sbin") or "dockerd",
                *("--bridge=none", "--iptables=false", "--ip6tables=false"),
                *("--data-root", str(home / "data"), "--exec-root", str(home / "exec")),
                *("-H", f"unix://{socket}", "--pidfile", str(home / "pid")),
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    docker = Docker(socket)
    try:
        deadline = time.monotonic() + START_LIMIT
        while docker("version").code != 0:
            assert process.poll() is None, (home / "log").read_text()
            assert time.monotonic() < deadline, (home / "log").read_text()
            time.sleep(0.2)
        yield docker
    finally:
        process.terminate()
        process.wait(timeout=60)
        shutil.rmtree(home, ignore_errors=True)
