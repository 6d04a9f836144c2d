"""The walk through a store path, which must not change meanwhile.

Modes within store paths are the two that Nix knows, 0555 for folders and what its owner may
execute and 0444 for the rest. A store holds no others, but a folder is writable for the moment
in which ``nix-store --optimise`` works in it, and no such moment may show in a digest. Bits that
Nix would never keep (set-uid, set-gid, sticky, write) are thereby left out.

Nothing here needs more memory than the listings of the folders above the current file.
"""

import errno
import os
import stat
import time
from typing import NamedTuple

from nixery.packing.exceptions import PackError, fault
from nixery.packing.headers import FILE, FOLDER, LINK, Output, header, padding

_OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_OPEN_FOLDER = _OPEN_FILE | os.O_DIRECTORY
_CHANGED = "it changed while it was packed"


class _Folder(NamedTuple):
    """A folder that is being packed.

    :param changed: when its listing last changed, in nanoseconds.
    :param rest: the names that are left, last first; those of folders end with a slash.
    """

    name: bytes
    descriptor: int
    changed: int
    rest: list[bytes]


class Walk:
    """Writes store paths to an output, without recursion, however deep their folders are.

    What changes after this object was made is noticed when it is come to.
    """

    def __init__(self, out: Output) -> None:
        self._out = out
        self._began = time.time_ns()
        self._stack: list[_Folder] = []

    def pack(self, name: bytes, physical: bytes) -> None:
        """Write a store path and all that is in it.

        :param name: relative, as it is to be in the stream; that of a folder ends with a slash.
        :param physical: where it is on this machine.
        :raises PackError: if something can't be read, changed, or can't be in a layer.
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
            raise fault("unsupported", name, "to clients, a name that begins with .wh. deletes")
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
        """See that something did not change before we came to it: a folder half deleted, say.

        A time that is still to come was not set by a change.
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
        """Write a file of which ``status`` was just read, and see that it is the same after."""
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
        # Not the inode and not ctime: both change when Nix replaces a file by a link to its equal.
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
    """What the system knows of a file or link.

    :param name: its name in the stream, for the error.
    :param within: an open folder that ``at`` is relative to.
    :raises PackError: if it is not there or out of reach.
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

    Folders are listed with a slash after their names: in the order of such names a folder comes
    right before what is in it, so that sorting folder by folder sorts the whole stream.
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
        return fault("changed", name, "it is not there, or vanished while it was packed")
    return fault("unreadable", name, f"it can't be read: {os.strerror(error.errno or 0)}")


def _describe(kind: int) -> str:
    names = {stat.S_IFSOCK: "a socket", stat.S_IFIFO: "a named pipe"}
    return names.get(kind, "a device file")
