"""Files that are there whole or not at all. Everything here blocks: to be used in threads."""

import contextlib
import errno
import os
import shutil
import stat
import time
from collections.abc import Iterator

import attrs

from nixery.model.errors import StorageUnavailable

_CLOCK_REALTIME_COARSE = 5  # of Linux: the one that file systems take their times from
_LONGEST_TICK = 0.02  # seconds
_READABLE_BY_ALL = 0o644

UNREADABLE = (errno.EACCES, errno.EPERM, errno.EIO, errno.ELOOP, errno.ENXIO, errno.ENOENT)
"""Faults of a file itself rather than of the system: it is as good as lost."""


@attrs.frozen
class Identity:
    """What changes whenever a file is altered or another takes its place.

    :param kind: the file type bits of its mode.
    :param size: bytes.
    :param modified: nanoseconds since the epoch.
    :param changed: nanoseconds since the epoch; unlike the former, nobody can set it.
    """

    kind: int
    inode: int
    size: int
    modified: int
    changed: int

    @classmethod
    def of(cls, found: os.stat_result) -> "Identity":
        """The identity in a ``stat``."""
        kind = stat.S_IFMT(found.st_mode)
        return cls(kind, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)

    @property
    def is_file(self) -> bool:
        """Whether it is a plain file rather than a folder, a link or a device."""
        return self.kind == stat.S_IFREG

    def moved_from(self, before: "Identity") -> bool:
        """Whether it may be the same file under another name: renaming touches ``changed``."""
        return attrs.evolve(self, changed=before.changed) == before


def identify(path: str) -> Identity | None:
    """What is at a path, links not followed; nothing if nothing is."""
    try:
        return Identity.of(os.lstat(path))
    except FileNotFoundError:
        return None


def settle(identity: Identity) -> None:
    """Wait until any change to come will show in the identity.

    File systems count time in ticks of some milliseconds: of two changes in one tick, the later
    one does not show.
    """
    give_up = time.monotonic() + _LONGEST_TICK
    while time.clock_gettime_ns(_CLOCK_REALTIME_COARSE) <= identity.changed:
        if time.monotonic() > give_up:
            return  # the file system has a clock of its own
        time.sleep(0.001)


def open_file(path: str) -> int:
    """A descriptor to read a file with: never through a link, never waiting for a pipe."""
    return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)


def read_file(path: str, limit: int | None = None) -> bytes | None:
    """A file's bytes.

    :param limit: the most bytes to read.
    :return: nothing if no plain file is there, or it can't be read.
    """
    found = identify(path)
    if found is None or not found.is_file:
        return None
    try:
        with open(open_file(path), "rb") as file:
            return file.read(-1 if limit is None else limit)
    except OSError as error:
        if error.errno in UNREADABLE:
            return None
        raise


def write_file(path: str, content: bytes) -> None:
    """Write a new file, safe on the disk when this returns; nothing is left if that fails."""
    try:
        with open(path, "xb") as file:
            os.fchmod(file.fileno(), _READABLE_BY_ALL)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        remove(path)
        raise


@contextlib.contextmanager
def sealed(path: str, size: int) -> Iterator[int]:
    """What another process has written, safe on the disk and open.

    :param size: the bytes that it wrote.
    :raises StorageUnavailable: if others are there.
    """
    file = open_file(path)
    try:
        found = Identity.of(os.fstat(file))
        if not found.is_file or found.size != size:
            raise StorageUnavailable(f"of {size} bytes that were written, {found.size} arrived")
        os.fchmod(file, _READABLE_BY_ALL)
        os.fsync(file)
        yield file
    finally:
        os.close(file)


def place(staged: str, path: str, aside: str) -> None:
    """Give a file that is safe on the disk its place, over whatever is there.

    :param aside: a path for a folder that may be in the way.
    """
    parent = os.path.dirname(path)
    if not os.path.isdir(parent):
        os.makedirs(parent, exist_ok=True)
        sync_folder(os.path.dirname(parent))
    try:
        os.replace(staged, path)
    except IsADirectoryError:
        os.rename(path, aside)
        os.replace(staged, path)
        remove(aside)
    sync_folder(parent)


def sync_folder(path: str) -> None:
    """Make sure that the names in a folder outlast a power cut."""
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def drop(path: str, found: Identity, aside: str) -> None:
    """Remove what was found at a path, but nothing that has taken its place since.

    It is moved aside first: between a look and an ``unlink``, another process might put a good
    file there.

    :param aside: where to move it to, on the same file system.
    """
    try:
        os.rename(path, aside)
    except FileNotFoundError:
        return
    if Identity.of(os.lstat(aside)).moved_from(found):
        remove(aside)
    else:
        os.replace(aside, path)


def remove(path: str) -> None:
    """Remove a file, a link or a folder with all that is in it, if there is one."""
    with contextlib.suppress(FileNotFoundError):
        try:
            os.unlink(path)
        except IsADirectoryError:
            shutil.rmtree(path)


def make_usable(folder: str) -> None:
    """Make a folder if it is not there.

    :raises StorageUnavailable: if it can't be used.
    """
    try:
        os.makedirs(folder, mode=0o755, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise StorageUnavailable(f"{folder} is no folder") from error
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK, effective_ids=True):
        raise StorageUnavailable(f"{folder} can't be written to")
