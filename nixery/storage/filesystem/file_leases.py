"""Leases as locked files: a lock goes with its process, however that ends. A process that is there
and does nothing, as one that was stopped, has its lock still: so the file's time tells, too."""

import contextlib
import os
import time
from collections.abc import Callable
from typing import ParamSpec, Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from nixery.storage.filesystem.files import FileIdentity, drop, identify
from nixery.storage.filesystem.locks import is_at, try_lock
from nixery.storage.held_lease import HeldLease, LeaseLost, LeaseTiming
from nixery.storage.keys import is_lease_key

TIMING = LeaseTiming(lifetime=30, shortest=0.15, longest=0.25)

P = ParamSpec("P")
T = TypeVar("T")


class InThread(Protocol):
    """Runs something that blocks in a thread; its errors are those of the storage."""

    def __call__(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]: ...


class FileLeases:
    """Gives out leases."""

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        in_thread: InThread,
        aside: Callable[[], str],
        timing: LeaseTiming = TIMING,
    ) -> None:
        """
        :param aside: gives a new path on the same file system.
        """
        self._clock = clock
        self._in_thread = in_thread
        self._aside = aside
        self._timing = timing

    async def lease(self, path: str) -> HeldLease:
        """Wait for the lease that a file is."""
        seen: FileIdentity | None = None
        since = 0.0
        while (held := await self._take(path)) is None:
            found = await self._in_thread(identify, path)
            # By the clock of the one who waits: that of its holder, or of the disk, may be wrong.
            if found != seen:
                seen, since = found, self._clock.seconds()
            elif found is not None and self._clock.seconds() - since > self._timing.lifetime:
                self._log.warn("{path} is taken over: its holder gives no sign", path=path)
                await self._in_thread(self._drop, path, found)
            await deferLater(self._clock, self._timing.pause(), lambda: None)
        return self._hold(path, held)

    def _drop(self, path: str, found: FileIdentity) -> None:
        drop(path, found, self._aside())

    def _hold(self, path: str, held: int) -> HeldLease:
        async def refresh() -> None:
            if not await self._in_thread(touch_lease, path, held):
                raise LeaseLost

        async def give_back() -> None:
            await self._in_thread(release_lease, path, held)

        return HeldLease(self._clock, path, self._timing.lifetime, refresh, give_back)

    def _take(self, path: str) -> "Deferred[int | None]":
        """Try to take a lease; who does not wait for it any longer does not hold it."""
        waiter: Deferred[int | None] = Deferred()

        def finish(result: int | Failure | None) -> None:
            if not waiter.called:
                waiter.callback(result)
            elif isinstance(result, int):
                release_lease(path, result)

        self._in_thread(take_lease, path).addBoth(finish)
        return waiter


def take_lease(path: str) -> int | None:
    """Lock a file, which is made if it is not there. Blocks: for threads.

    :return: its descriptor; nothing if another holds the lock.
    """
    os.makedirs(os.path.dirname(path), exist_ok=True)
    return try_lock(path, os.O_RDWR | os.O_CREAT)


def touch_lease(path: str, held: int) -> bool:
    """Show that a lease's holder is there. Blocks.

    :return: whether it still holds the lease.
    """
    now = time.time_ns()
    os.utime(held, ns=(now, now))
    return is_at(held, path)


def release_lease(path: str, held: int) -> None:
    """Unlock a file and remove it, unless another process has put its own in its place. Blocks."""
    # The lock goes with the file's last name only when it is closed: nobody else takes it before.
    with contextlib.suppress(OSError):
        if touch_lease(path, held):
            os.unlink(path)
    os.close(held)


def clear_leases(folder: str) -> list[str]:
    """Remove what processes that are no more have left: empty files named by keys. Blocks.

    :return: their names.
    """
    gone = []
    for name in filter(is_lease_key, os.listdir(folder)):
        path = os.path.join(folder, name)
        with contextlib.suppress(OSError):  # whatever else lies there
            found = identify(path)
            if found is None or not found.is_file or found.size:
                continue
            held = take_lease(path)
            if held is not None:
                release_lease(path, held)
                gone.append(name)
    return gone
