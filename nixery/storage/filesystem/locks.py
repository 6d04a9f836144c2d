"""Locks on files and folders, which go with the process that holds them, however that ends.

Everything blocks.
"""

import contextlib
import fcntl
import os

from twisted.logger import Logger

_log = Logger()


def try_lock(path: str, flags: int, needed: bool = False) -> int | None:
    """Open and lock what is at a path.

    :param flags: for ``os.open``.
    :param needed: whether a file system without such locks is an error, rather than logged.
    :return: its descriptor; nothing if another holds the lock, or has taken it away meanwhile.
    """
    try:
        held = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if is_at(held, path):
            return held
    except BlockingIOError:
        pass
    except OSError as error:
        if not needed:
            _log.warn("{path} can't be locked; going on without: {error}", path=path, error=error)
            return held
        os.close(held)
        raise
    os.close(held)
    return None


def is_at(held: int, path: str) -> bool:
    """Whether an open file is still the one at a path."""
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(held), os.lstat(path))
    return False
