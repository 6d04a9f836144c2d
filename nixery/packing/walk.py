"""Reading a store path, which must not change meanwhile.

Modes within store paths are written as the two that Nix knows: 0555 for folders and executables,
0444 for the rest. A store has no others, but ``nix-store --optimise`` makes folders writable for a
moment, which must not show in a digest.

Memory is bounded by the listings of the folders above the current file.
"""

import errno
import os
import stat
import time
from typing import NamedTuple

from nixery.packing.tar_stream import (
    FILE,
    FOLDER,
    LINK,
    PackError,
    TarOutput,
    fault,
    header,
    padding,
)

_OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_OPEN_FOLDER = _OPEN_FILE | os.O_DIRECTORY
_CHANGED = "it changed while it was packed"


class _Folder(NamedTuple):
    """A folder that is being packed.

    :param changed: when its listing last changed, in nanoseconds.
    :param rest: the names still to pack, last first; those of folders end with a slash.
    """

    name: bytes
    descriptor: int
    changed: int
    rest: list[bytes]


class Walk:
    """Writes store paths to an output, without recursion: folders may be deep.

    Changes after this object was made are noticed when their file is reached.
    """

    def __init__(self, out: TarOutput) -> None:
        self._out = out
        self._began = time.time_ns()
        self._stack: list[_Folder] = []

    def pack(self, name: bytes, physical: bytes) -> None:
        """Write a store path and all that is below it.

        :param name: relative, for the stream; that of a folder ends with a slash.
        :param physical: the place on this machine.
        :raises PackError: if a file can't be read, changed, or can't be in a layer.
        """
        try:
            self._pack_one(name, physical, None)
            while self._stack:
                folder = self._stack[-1]
                if folder.rest:
                    child = folder.rest.pop()
                    self._pack_one(folder.name + child, child, folder.descriptor)
                else:
                    self._leave(folder)
        finally:
            while self._stack:
                os.close(self._stack.pop().descriptor)

    def _pack_one(self, name: bytes, at: bytes, within: int | None) -> None:
        status = status_of(name, at, within)
        kind = stat.S_IFMT(status.st_mode)
        if (kind == stat.S_IFDIR) is not name.endswith(b"/"):
            raise fault("changed", name, _CHANGED)
        self._check_age(name, status)
        if b"/.wh." in name:
            raise fault(
                "unsupported", name, "clients take a name that begins with .wh. for a deletion"
            )
        if kind == stat.S_IFREG:
            self._pack_file(name, at, within, status)
        elif kind == stat.S_IFDIR:
            self._out.write(header(name, FOLDER, 0o555))
            self._stack.append(_enter(name, at, within, status.st_mtime_ns))
        elif kind == stat.S_IFLNK:
            self._out.write(header(name, LINK, 0o777, 0, _target(name, at, within)))
        else:
            raise fault("unsupported", name, f"{_describe(kind)} can't be in a layer")

    def _check_age(self, name: bytes, status: os.stat_result) -> None:
        """Refuse a file that changed before we reached it, such as a folder half deleted.

        A time in the future was not set by a change.
        """
        if status.st_mtime_ns > self._began and status.st_mtime_ns <= time.time_ns():
            raise fault("changed", name, _CHANGED)

    def _leave(self, folder: _Folder) -> None:
        if os.fstat(folder.descriptor).st_mtime_ns != folder.changed:
            raise fault("changed", folder.name, _CHANGED)
        os.close(self._stack.pop().descriptor)

    def _pack_file(
        self, name: bytes, at: bytes, within: int | None, status: os.stat_result
    ) -> None:
        """Write a file whose ``status`` was just read, and check that it has not changed since."""
        try:
            descriptor = os.open(at, _OPEN_FILE, dir_fd=within)
        except OSError as error:
            raise _refused(name, error) from error
        try:
            size = status.st_size
            mode = 0o555 if status.st_mode & stat.S_IXUSR else 0o444
            self._out.write(header(name, FILE, mode, size))
            self._copy(name, descriptor, size)
            after = os.fstat(descriptor)
        finally:
            os.close(descriptor)
        # Not the inode or ctime, which change when Nix replaces a file by a link to an equal one.
        if (after.st_size, after.st_mtime_ns) != (size, status.st_mtime_ns):
            raise fault("changed", name, _CHANGED)
        self._out.write(padding(size))

    def _copy(self, name: bytes, descriptor: int, size: int) -> None:
        left = size
        while left:
            space = self._out.space()[:left]
            try:
                count = os.readv(descriptor, [space])
            except OSError as error:
                raise _refused(name, error) from error
            if not count:
                raise fault("changed", name, "it became shorter while it was packed")
            self._out.advance(count)
            left -= count


def status_of(name: bytes, at: bytes, within: int | None) -> os.stat_result:
    """The status of a file or link.

    :param name: its name in the stream, for the error.
    :param within: an open folder that ``at`` is relative to.
    :raises PackError: if there is none, or it can't be read.
    """
    try:
        return os.stat(at, dir_fd=within, follow_symlinks=False)
    except OSError as error:
        raise _refused(name, error) from error


def _target(name: bytes, at: bytes, within: int | None) -> bytes:
    try:
        return os.readlink(at, dir_fd=within)
    except OSError as error:
        raise _refused(name, error) from error


def _enter(name: bytes, at: bytes, within: int | None, changed: int) -> _Folder:
    """Open and list a folder.

    Names of folders end with a slash: so a folder comes right before its contents, and sorting
    folder by folder sorts the whole stream.
    """
    try:
        descriptor = os.open(at, _OPEN_FOLDER, dir_fd=within)
        try:
            return _Folder(name, descriptor, changed, _listing(descriptor))
        except BaseException:
            os.close(descriptor)
            raise
    except OSError as error:
        raise _refused(name, error) from error


def _listing(descriptor: int) -> list[bytes]:
    with os.scandir(descriptor) as entries:
        names = [
            os.fsencode(entry.name) + (b"/" if entry.is_dir(follow_symlinks=False) else b"")
            for entry in entries
        ]
    names.sort(reverse=True)
    return names


def _refused(name: bytes, error: OSError) -> PackError:
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ESTALE):
        return fault("changed", name, "it does not exist, or vanished while it was packed")
    return fault("unreadable", name, f"it can't be read: {os.strerror(error.errno or 0)}")


def _describe(kind: int) -> str:
    names = {stat.S_IFSOCK: "a socket", stat.S_IFIFO: "a named pipe"}
    return names.get(kind, "a device file")
