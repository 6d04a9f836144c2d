"""Whatever a run of the tests makes on this machine, it makes below one folder of its own.

So two runs beside each other share nothing, and nothing is left of one: at its end, processes that
it has left are ended, and what is mounted in the folder is unmounted.
"""

import contextlib
import ctypes
import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import attrs
import psutil

_PREFIX = "nixery-tests-"
_LOCK = "lock"
_PR_SET_CHILD_SUBREAPER = 36
_TRIES = 5


@attrs.frozen
class RunFolder:
    """The folder of a run.

    :param lock: a descriptor; the folder is in use while it is open.
    """

    path: Path
    lock: int

    @classmethod
    def make(cls) -> "RunFolder":
        """Make one, and have all temporary files below it.

        Its path is short, for the sake of UNIX sockets. What runs that were killed have left is
        removed. Orphans of this process's family become its children.
        """
        _sweep(Path(tempfile.gettempdir()))
        path = Path(tempfile.mkdtemp(prefix=_PREFIX))
        path.chmod(0o711)  # tests that are ordinary users for a while have folders in there
        lock = os.open(path / "new", os.O_CREAT | os.O_RDONLY | os.O_CLOEXEC)
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.rename(path / "new", path / _LOCK)  # where nobody finds it before it is locked
        os.environ["TMPDIR"] = tempfile.tempdir = str(path)
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        return cls(path, lock)

    def remove(self, tell: Callable[[str], None]) -> None:
        """End what is left, and remove it.

        :param tell: is told of each process that was left.
        """
        left = [process for process in psutil.Process().children(recursive=True) if _runs(process)]
        for process in left:
            tell(f"left, and ended: {' '.join(_command(process))}")
            _kill(process)
        psutil.wait_procs(left, timeout=10)
        remove(self.path)
        os.close(self.lock)
        if self.path.exists():
            tell(f"could not be removed: {self.path}")


def _runs(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _command(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []


def _kill(process: psutil.Process) -> None:
    with contextlib.suppress(psutil.Error):
        process.kill()


def _sweep(top: Path) -> None:
    """Remove the folders of runs that are over."""
    for lock_file in top.glob(f"{_PREFIX}*/{_LOCK}"):
        try:
            lock = os.open(lock_file, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:  # another one's, or gone by now
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove(lock_file.parent)
        except BlockingIOError:
            pass
        finally:
            os.close(lock)


def remove(folder: Path) -> None:
    """Unmount what is mounted in a folder, and remove it."""
    for _ in range(_TRIES):
        for place in reversed(_mounted_in(folder)):
            subprocess.run(["umount", "--lazy", place], check=False)
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return


def _mounted_in(folder: Path) -> list[str]:
    lines = Path("/proc/self/mounts").read_text(errors="surrogateescape").splitlines()
    places = [line.split(" ")[1].replace("\\040", " ") for line in lines]
    return [place for place in places if place.startswith(f"{folder}/")]
