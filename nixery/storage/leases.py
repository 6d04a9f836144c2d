"""Leases as locked files: a lock goes with its process, however that ends."""

import contextlib
import fcntl
import os

from twisted.internet.interfaces import IReactorThreads
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from zope.interface import implementer

from nixery.interfaces import ILease

_log = Logger()


def take_lease(path: str) -> int | None:
    """Lock a file, which is made if it is not there. Blocks: for threads.

    :return: its descriptor; nothing if another holds the lock.
    """
    os.makedirs(os.path.dirname(path), exist_ok=True)
    held = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Whoever held it last may have removed the file meanwhile.
        if os.path.samestat(os.fstat(held), os.lstat(path)):
            return held
    except (BlockingIOError, FileNotFoundError):
        pass
    except OSError as error:
        _log.warn("{path} can't be locked; going on without: {error}", path=path, error=error)
        return held
    os.close(held)
    return None


def clear_leases(folder: str) -> None:
    """Remove what processes that are no more have left. Blocks."""
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        with contextlib.suppress(OSError):  # whatever else lies there
            held = take_lease(path)
            if held is not None:
                release_lease(path, held)


@implementer(ILease)
class FileLease:
    """A locked file."""

    def __init__(self, reactor: IReactorThreads, path: str, held: int) -> None:
        """
        :param held: the descriptor that holds the lock.
        """
        self._reactor = reactor
        self._path = path
        self._held: int | None = held

    async def release(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            pool = self._reactor.getThreadPool()
            await deferToThreadPool(self._reactor, pool, release_lease, self._path, held)


def release_lease(path: str, held: int) -> None:
    """Unlock a file and remove it. Blocks."""
    # The lock goes with the file's last name only when it is closed: nobody else takes it before.
    with contextlib.suppress(OSError):
        os.unlink(path)
    os.close(held)
