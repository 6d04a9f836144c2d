"""What the kernel tells of changes to files, read without waiting and without a reactor.

Twisted's own inotify does not say that events were lost, and ends with the first folder that goes.
"""

import errno
import os
import weakref

from inotify_simple import Event, INotify, flags, parse_events

MODIFIED, ATTRIBUTES = int(flags.MODIFY), int(flags.ATTRIB)
CREATED, DELETED = int(flags.CREATE), int(flags.DELETE)
MOVED_AWAY, MOVED_HERE = int(flags.MOVED_FROM), int(flags.MOVED_TO)
SELF_MOVED, SELF_DELETED = int(flags.MOVE_SELF), int(flags.DELETE_SELF)

_BLINDING = SELF_MOVED | SELF_DELETED | int(flags.UNMOUNT | flags.IGNORED | flags.Q_OVERFLOW)
_PIECE = 64 * 1024
"""Bytes of events that are read at once: some hundred events, a millisecond."""
_LARGEST = 16 + 256
"""Bytes of one event, with a file's name."""
# On others, another machine or another kernel may write to the files.
_OF_THIS_KERNEL = {
    *("bcachefs", "btrfs", "ext2", "ext3", "ext4", "f2fs", "jfs", "nilfs2", "overlay", "ramfs"),
    *("reiserfs", "squashfs", "tmpfs", "xfs", "zfs"),
}

_LIMITS = {
    errno.EMFILE: "too many open files, or more than sysctl fs.inotify.max_user_instances",
    errno.ENOSPC: "the user has more watches than sysctl fs.inotify.max_user_watches",
}
"""What the system calls a lack of descriptors, or of space on a disk."""


class Blind(Exception):
    """Events were lost, or there may have been more than can be told: anything may have changed."""


class Watches:
    """Some files and folders that the kernel watches.

    It keeps the events that are not read yet, within a bound of its own.
    """

    def __init__(self) -> None:
        """:raises OSError: if there is no inotify, or this user has too many."""
        self._inotify = INotify(nonblocking=True, closefd=False)
        self.close = weakref.finalize(self, os.close, self._inotify.fileno())
        """Watch nothing any more; with very many watches it takes a while."""
        self._buffer = bytearray(_PIECE)

    def add(self, path: str, kinds: int) -> int:
        """Watch a file, or what is in a folder: from now on no event is missed.

        A folder must not be the place where another file system is mounted later. What is written
        by another name of a file (a hard link), or through memory (``mmap``), makes no event.

        :param kinds: of events, added up; that something ends the watch is always told.
        :return: a number that its events have.
        :raises OSError: if there are too many watches, or it can't be read.
        """
        watch: int = self._inotify.add_watch(path, kinds | SELF_MOVED | SELF_DELETED)
        return watch

    def events(self) -> list[Event]:
        """The events since the last call, of all that happened before this one; it takes
        microseconds if there are none, and never waits.

        :raises Blind: if it can't tell any more; it goes on with what comes then, if it was only
            too much.
        """
        count = self._inotify.readinto(self._buffer)
        if not count:
            return []
        if count > _PIECE - _LARGEST:
            while self._inotify.readinto(self._buffer):
                pass  # it would take too long to look at them
            raise Blind
        found: list[Event] = parse_events(bytes(self._buffer[:count]))
        if any(event.mask & _BLINDING for event in found):
            raise Blind
        return found


def reason_of(error: OSError) -> str:
    """Why something can't be watched, for messages."""
    return _LIMITS.get(error.errno or 0) or error.strerror or str(error)


def is_told(path: str) -> bool:
    """Whether the kernel sees all changes to files at a path: those of a network's file system may
    come from another machine. Blocks."""
    try:
        file = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            with open(f"/proc/self/fdinfo/{file}", encoding="ascii") as facts:
                mount = next(line.split()[1] for line in facts if line.startswith("mnt_id:"))
        finally:
            os.close(file)
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as mounts:
            kind = next(
                line.partition(" - ")[2].split()[0]
                for line in mounts
                if line.startswith(f"{mount} ")
            )
    except (OSError, StopIteration):
        return False
    return kind in _OF_THIS_KERNEL
