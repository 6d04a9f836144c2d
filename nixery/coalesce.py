"""One running task for each key, however many wait for it."""

from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.python.failure import Failure

from nixery.model.service_errors import ShuttingDown

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


class Coalescer(Generic[K, T]):
    """Runs tasks that belong to nobody.

    A waiter who leaves hurts neither the task nor the others who wait for it; a task that
    everybody has left goes on.
    """

    def __init__(self) -> None:
        self._tasks: dict[K, Deferred[T]] = {}
        self._waiting: dict[K, list[Deferred[T]]] = {}
        self._stopping = False

    def __len__(self) -> int:
        return len(self._tasks)

    def join(self, key: K, start: Callable[[], Awaitable[T]]) -> Deferred[T]:
        """Wait for the task of a key, which is started if none is running.

        :param start: called, if it is called at all, before this returns: a caller may rely on
            what it sets. What it raises, or returns at once, reaches those who wait.
        :return: the caller's own: it may be cancelled.
        :raises ShuttingDown: after :meth:`stop`.
        """
        if self._stopping:
            raise ShuttingDown()
        waiter: Deferred[T] = Deferred(lambda left: self._leave(key, left))
        self._waiting.setdefault(key, []).append(waiter)
        if key not in self._tasks:
            self._start(key, start)
        return waiter

    def waiting(self, key: K) -> int:
        """The number of those who wait for the task of a key."""
        return len(self._waiting.get(key, ()))

    def stop(self) -> Deferred[None]:
        """Cancel all tasks; fires when the last one has ended."""
        self._stopping = True
        tasks = list(self._tasks.values())
        ended = DeferredList([following(task) for task in tasks])
        for task in tasks:
            task.cancel()
        return ended.addCallback(lambda _: None)

    def _leave(self, key: K, waiter: Deferred[T]) -> None:
        waiting = self._waiting.get(key, [])
        if waiter in waiting:
            waiting.remove(waiter)

    def _start(self, key: K, start: Callable[[], Awaitable[T]]) -> None:
        async def run() -> T:
            return await start()

        task = Deferred.fromCoroutine(run())
        self._tasks[key] = task
        task.addBoth(self._finish, key)

    def _finish(self, result: T | Failure, key: K) -> None:
        waiting = self._waiting.pop(key)
        del self._tasks[key]
        if isinstance(result, Failure) and isinstance(result.value, CancelledError):
            result = Failure(ShuttingDown())
        for waiter in waiting:
            if waiter.called:  # cancelled by what another one's callback did
                continue
            # A Failure is as good as a value here: callback() turns to the errbacks for one.
            waiter.callback(result)


def following(task: Deferred[T]) -> Deferred[None]:
    """A Deferred of the caller's own that fires when a shared one has ended."""
    own: Deferred[None] = Deferred()
    task.addBoth(lambda _: own.callback(None))
    return own
