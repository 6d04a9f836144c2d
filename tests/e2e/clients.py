"""Container clients: podman, and Docker and containerd with engines of the tests' own."""

import json
import os
import pty
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import attrs
import psutil

from tests.e2e.debian import Root
from tests.leftovers import remove
from tests.waiting import HUNG, wait_until


@attrs.frozen
class Ran:
    """A command that ended: all that it printed, and its exit code."""

    code: int
    output: str


def run(argv: list[str], given: str = "", **environ: str) -> Ran:
    """Run a command to its end, its two outputs as one.

    :param given: what it can read from its standard input.
    """
    done = subprocess.run(
        argv,
        cwd="/",  # Python finds nothing of a checkout there
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        input=given.encode(),
        timeout=HUNG,
        env={**os.environ, **environ},
        check=False,
    )
    return Ran(done.returncode, done.stdout.decode("utf-8", "replace"))


def _command(root: Root | None, folder: Path, *argv: str) -> list[str]:
    """The command that runs another: here, or in a root folder."""
    return list(argv) if root is None else root.inside(folder, *argv)


def _converse(terminal: int, entered: bytes) -> bytes:
    """All that is printed on a terminal until nobody has it any more."""
    output, deadline = b"", time.monotonic() + HUNG
    with os.fdopen(terminal, "rb+", buffering=0) as file:
        while time.monotonic() < deadline:
            if not select.select([file], [], [], 1)[0]:
                file.write(entered)
                continue
            try:
                output += file.read(1 << 16)
            except OSError:  # what Linux says at the end
                return output
    raise AssertionError(f"it did not end: {output!r}")


@attrs.frozen
class Docker:
    """A Docker client and the engine it talks to.

    :param root: where its programs are; none for this machine's.
    """

    socket: Path
    root: Root | None = None

    @property
    def folder(self) -> Path:
        """What the client can read."""
        return self.socket.parent

    def __call__(self, *arguments: str, given: str = "") -> Ran:
        program = "/usr/bin/docker" if os.path.exists("/usr/bin/docker") else "docker"
        return run(
            _command(self.root, self.folder, program, *arguments),
            given,
            DOCKER_HOST=f"unix://{self.socket}",
            DOCKER_CONFIG=str(self.folder),
        )

    def ok(self, *arguments: str, given: str = "") -> str:
        """The output of a command that must succeed."""
        ran = self(*arguments, given=given)
        assert ran.code == 0, f"docker {' '.join(arguments)}: {ran.output}"
        return ran.output

    def run(self, image: str, *command: str, options: tuple[str, ...] = ()) -> str:
        """What a command in a container of an image prints."""
        return self.ok("run", "--rm", "--network=none", *options, image, *command)

    def on_terminal(self, *arguments: str, entered: str = "") -> Ran:
        """Run a command on a terminal.

        :param entered: is typed whenever nothing happens for a moment, until the command ends.
        """
        master, slave = pty.openpty()
        environ = {"DOCKER_HOST": f"unix://{self.socket}", "DOCKER_CONFIG": str(self.folder)}
        command = _command(self.root, self.folder, "docker", *arguments)
        with subprocess.Popen(
            command, env={**os.environ, **environ}, stdin=slave, stdout=slave, stderr=slave
        ) as process:
            os.close(slave)
            output = _converse(master, entered.encode())
        return Ran(process.returncode, output.decode("utf-8", "replace"))

    def ctr(self, *arguments: str) -> Ran:
        """Run a command of containerd's own client, at the engine's containerd."""
        address = self.socket.parent / "exec" / "containerd" / "containerd.sock"
        return run(["ctr", f"--address={address}", *arguments])


@attrs.frozen
class Podman:
    """podman with a storage of its own.

    :param root: where the program is; none for this machine's.
    """

    home: Path
    root: Root | None = None

    def __call__(self, *arguments: str) -> Ran:
        places = ["--root", str(self.home / "root"), "--runroot", str(self.home / "run")]
        argv = ["podman", *places, f"--storage-driver={storage_driver()}", *arguments]
        return run(_command(self.root, self.home, *argv))

    def ok(self, *arguments: str) -> str:
        """The output of a command that must succeed."""
        ran = self(*arguments)
        assert ran.code == 0, f"podman {' '.join(arguments)}: {ran.output}"
        return ran.output


@cache
def storage_driver() -> str:
    """How podman is to keep images: as overlays, if this user may mount these.

    Its other driver writes a whole copy of an image for each of its layers.
    """
    folder = Path(tempfile.mkdtemp(prefix="overlay-"))
    for name in ("lower", "upper", "work", "merged"):
        (folder / name).mkdir()
    below = ",".join(f"{name}dir={folder}/{name}" for name in ("lower", "upper", "work"))
    mounted = run(["mount", "-t", "overlay", "-o", below, "overlay", str(folder / "merged")])
    remove(folder)
    return "overlay" if mounted.code == 0 else "vfs"


@contextmanager
def podman_storage(root: Root | None = None) -> Iterator[Podman]:
    """A podman storage for a while; podman refuses long paths."""
    home = Path(tempfile.mkdtemp(prefix="podman-"))
    try:
        yield Podman(home, root)
    finally:
        remove(home)


@contextmanager
def engine(root: Root | None = None, **features: bool) -> Iterator[Docker]:
    """Run a Docker engine without networks for containers; needs root.

    :param root: where its programs are; none for this machine's.
    :param features: what is set in its configuration.
    """
    # UNIX sockets' paths are short, pytest's folders are not.
    home = Path(tempfile.mkdtemp(prefix="docker-"))
    docker = Docker(home / "docker.sock", root)
    names = {name.replace("_", "-"): on for name, on in features.items()}
    (home / "daemon.json").write_text(json.dumps({"features": names}))
    path = f"{os.environ['PATH']}:/usr/sbin"
    program = (None if root else shutil.which("dockerd", path=path)) or "dockerd"
    argv = [
        *(program, "--config-file", str(home / "daemon.json")),
        *("--bridge=none", "--iptables=false", "--ip6tables=false"),
        *("--data-root", str(home / "data"), "--exec-root", str(home / "exec")),
        *("-H", f"unix://{docker.socket}", "--pidfile", str(home / "pid")),
    ]
    try:
        with _background(root, home, lambda: docker("version").code == 0, *argv):
            yield docker
    finally:
        remove(home)


@contextmanager
def _background(
    root: Root | None, home: Path, is_up: Callable[[], bool], *argv: str
) -> Iterator[None]:
    """Run a program until the block ends; fails if it ends before it is up."""
    log = home / "log"
    with log.open("wb") as file:
        command = _command(root, home, *argv)
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
    try:
        wait_until(lambda: process.poll() is not None or is_up())
        assert process.poll() is None, log.read_text()
        yield
    finally:
        if process.poll() is None:
            # In a root, the process is unshare, which ends when the program does.
            ended = psutil.Process(process.pid)
            for each in ended.children() if root is not None else [ended]:
                each.terminate()
        process.wait(timeout=HUNG)


@attrs.frozen
class Containerd:
    """A containerd, and its client ctr.

    :param root: where its programs are.
    """

    home: Path
    root: Root

    def __call__(self, *arguments: str) -> Ran:
        argv = ["ctr", "--address", str(self.home / "sock"), *arguments]
        return run(_command(self.root, self.home, *argv))

    def ok(self, *arguments: str) -> str:
        """The output of a command that must succeed."""
        ran = self(*arguments)
        assert ran.code == 0, f"ctr {' '.join(arguments)}: {ran.output}"
        return ran.output


@contextmanager
def containerd(root: Root) -> Iterator[Containerd]:
    """Run a containerd."""
    home = Path(tempfile.mkdtemp(prefix="containerd-"))
    ctr = Containerd(home, root)
    argv = ["containerd", "--root", f"{home}/root", "--state", f"{home}/state"]
    try:
        argv += ["--address", f"{home}/sock"]
        with _background(root, home, lambda: ctr("version").code == 0, *argv):
            yield ctr
    finally:
        remove(home)
