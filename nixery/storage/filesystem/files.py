"""Files as the storage sees them: by what changes with their content. Everything blocks."""

import contextlib
import errno
import os
import shutil
import stat
import time
from collections.abc import Iterator

import attrs

from nixery.model.service_errors import StorageFull, StorageUnavailable

_CLOCK_REALTIME_COARSE = 5  # of Linux: the one that file systems take their times from
_LONGEST_TICK = 0.02  # seconds
READABLE_BY_ALL = 0o644
"""Permissions of what is stored, whatever the umask."""
_FULL = (errno.ENOSPC, errno.EDQUOT)

UNREADABLE = (errno.EACCES, errno.EPERM, errno.EIO, errno.ELOOP, errno.ENXIO, errno.ENOENT)
"""Faults of a file itself rather than of the system: it is as good as lost."""


@attrs.frozen
class FileIdentity:
    """A file's attributes that change whenever it is altered or another takes its place.

    :param kind: the file type bits of its mode.
    :param size: bytes.
    :param modified: nanoseconds since the epoch.
    :param changed: nanoseconds since the epoch; unlike the former, nobody can set it.
    :param links: the number of its names.
    """

    kind: int
    inode: int
    size: int
    modified: int
    changed: int
    links: int = attrs.field(default=1, eq=False)

    @classmethod
    def of(cls, found: os.stat_result) -> "FileIdentity":
        """The identity in a ``stat``."""
        kind = stat.S_IFMT(found.st_mode)
        times = (found.st_mtime_ns, found.st_ctime_ns)
        return cls(kind, found.st_ino, found.st_size, *times, found.st_nlink)

    @property
    def is_file(self) -> bool:
        """Whether it is a plain file rather than a folder, a link or a device."""
        return self.kind == stat.S_IFREG

    def moved_from(self, before: "FileIdentity") -> bool:
        """Whether it may be the same file under another name: renaming touches ``changed``."""
        return attrs.evolve(self, changed=before.changed) == before


def identify(path: str) -> FileIdentity | None:
    """The identity of the file at a path, links not followed; nothing if there is none."""
    try:
        return FileIdentity.of(os.lstat(path))
    except FileNotFoundError:
        return None


def settle(identity: FileIdentity) -> None:
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


def scan(folder: str) -> contextlib.AbstractContextManager[Iterator[os.DirEntry[str]]]:
    """The entries of a folder; none if it is not there."""
    try:
        return os.scandir(folder)
    except FileNotFoundError:
        return contextlib.nullcontext(iter(()))


@contextlib.contextmanager
def sealed(path: str, size: int) -> Iterator[int]:
    """A file that another process has written, safe on the disk and open.

    :param size: the bytes that it wrote.
    :raises StorageUnavailable: if others are there.
    """
    file = open_file(path)
    try:
        found = FileIdentity.of(os.fstat(file))
        if not found.is_file or found.size != size:
            raise StorageUnavailable(f"of {size} bytes that were written, {found.size} arrived")
        os.fchmod(file, READABLE_BY_ALL)
        os.fsync(file)
        yield file
    finally:
        os.close(file)


def drop(path: str, found: FileIdentity, aside: str) -> None:
    """Remove a file that was found at a path, but nothing that has taken its place since.

    It is moved aside first: between a look and an ``unlink``, another process might put a good
    file there.

    :param aside: where to move it to, on the same file system.
    """
    try:
        os.rename(path, aside)
    except FileNotFoundError:
        return
    if FileIdentity.of(os.lstat(aside)).moved_from(found):
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
        raise StorageUnavailable(f"{folder} is not a folder") from error
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK, effective_ids=True):
        raise StorageUnavailable(f"{folder} can't be written to")


@contextlib.contextmanager
def storage_faults(folder: str) -> Iterator[None]:
    """Turn an ``OSError`` into an error of the storage.

    :param folder: is named where the system names no file.
    :raises StorageFull: if there was no room, or the quota is used up.
    :raises StorageUnavailable: for every other ``OSError``, with its path and reason.
    """
    try:
        yield
    except OSError as error:
        if is_full(error):
            raise StorageFull() from error
        # A rename has two names.
        names = [name for name in (error.filename, error.filename2) if name] or [folder]
        path = " → ".join(map(str, names))
        # The reason first: of what follows, clients may show as much as a line has room for.
        raise StorageUnavailable(f"{error.strerror or error} ({path})") from error


def is_full(error: OSError) -> bool:
    """Whether an error says that there is no room."""
    return error.errno in _FULL
