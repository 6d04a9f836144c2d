"""What the daemon runs on: a small disk, a port that stays, and runs that end in every way."""

import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from pathlib import Path

import psutil

from tests.chaos.numbers import Numbers
from tests.e2e.daemon import Daemon, running
from tests.ports import free_port

_DISK = "size=600m,nr_inodes=20000"


class Machine:
    """A daemon that is started again and again on one state."""

    def __init__(self, folder: Path, environ: Mapping[str, str], numbers: Numbers) -> None:
        """
        :param folder: holds ``disk``, the small one, and what must outlast it.
        :param environ: settings of the daemon.
        """
        self.disk = folder / "disk"
        self.state = self.disk / "state"
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        self.port = free_port()
        self._runs = folder / "runs"
        self._numbers = numbers
        self._environ = {
            **environ,
            "STATE_DIRECTORY": str(self.state),
            "PORT": str(self.port),
            "TMPDIR": str(self.temporary),
        }
        self._stack = ExitStack()
        self._daemon: Daemon | None = None
        self._restarting = threading.Lock()

    @property
    def storage(self) -> Path:
        return self.state / "storage"

    @property
    def process(self) -> psutil.Process:
        """The daemon's process."""
        assert self._daemon is not None
        return psutil.Process(self._daemon.process.pid)

    def start(self) -> None:
        """Start the daemon, and wait until it listens."""
        with self._restarting:
            self._daemon = self._stack.enter_context(running(self._runs, self._environ))

    def stop(self, number: int = signal.SIGTERM) -> list[psutil.Process]:
        """End the daemon by a signal.

        :return: those who were its descendants.
        """
        assert self._daemon is not None
        with self._restarting:
            family = self.children()
            try:
                code = self._daemon.stop(number)
            except subprocess.TimeoutExpired:
                self._numbers.violated("the daemon did not end on TERM")
                code = 0
                self._daemon.process.kill()
            if code != (0 if number == signal.SIGTERM else -number):
                self._numbers.violated(f"the daemon ended with the exit code {code}")
            try:
                self._stack.close()
            except AssertionError:
                self._numbers.violated(f"an unexpected failure is logged: {_failure(self.log)}")
            return family

    @property
    def log(self) -> str:
        """What the present run has logged, or the last one."""
        assert self._daemon is not None
        return self._daemon.log

    def children(self) -> list[psutil.Process]:
        """The daemon's descendants, none if it does not run."""
        try:
            return descendants(self.process)
        except psutil.NoSuchProcess:
            return []


def descendants(process: psutil.Process) -> list[psutil.Process]:
    """Children of a process and theirs; none if it is gone."""
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """Have a file system of little room in a folder."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", _DISK, "tmpfs", str(folder)]
    subprocess.run(mount, check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


class Ballast:
    """What takes all the room of a disk: for bytes, or for more files."""

    def __init__(self, disk: Path) -> None:
        self._disk = disk
        self._file = disk / "ballast"
        self._folder = disk / "ballasts"

    def fill(self) -> None:
        """Leave no room for a byte."""
        with suppress(OSError), self._file.open("ab") as file:
            size = file.tell()
            while free := os.statvfs(self._disk).f_bavail * os.statvfs(self._disk).f_frsize:
                # Others take room at the same time.
                with suppress(OSError):
                    os.posix_fallocate(file.fileno(), size, free)
                    size += free

    def fill_with_files(self) -> None:
        """Leave no room for another file."""
        with suppress(OSError):
            self._folder.mkdir()
            for number in count():
                (self._folder / str(number)).touch()

    def free(self) -> None:
        """Give the room back."""
        self._file.unlink(missing_ok=True)
        shutil.rmtree(self._folder, ignore_errors=True)


def _failure(log: str) -> str:
    """The first traceback of a log."""
    start = log.index("Traceback")
    return log[max(0, start - 300) : start + 3000]
