"""Work that several wait for is done once."""

from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


class Joining(Generic[K, T]):
    """One running piece of work for each key; whoever leaves stops neither it nor the others."""

    def __init__(self) -> None:
        self._waiting: dict[K, list[Deferred[T]]] = {}

    def __contains__(self, key: K) -> bool:
        return key in self._waiting

    def join(self, key: K, start: Callable[[], Awaitable[T]]) -> Deferred[T]:
        """Wait for the work of a key, which is begun if it is not under way.

        :return: the caller's own: it may be cancelled.
        """
        running = key in self._waiting
        waiting = self._waiting.setdefault(key, [])
        waiter: Deferred[T] = Deferred(waiting.remove)
        waiting.append(waiter)
        if not running:
            self._start(key, start)
        return waiter

    def _start(self, key: K, start: Callable[[], Awaitable[T]]) -> None:
        async def run() -> T:
            return await start()

        Deferred.fromCoroutine(run()).addBoth(self._finish, key)

    def _finish(self, result: T | Failure, key: K) -> None:
        waiting = self._waiting.pop(key)
        # One by one: whoever is answered may cancel another's wait.
        while waiting:
            # A Failure is as good as a value here: callback() turns to the errbacks for one.
            waiting.pop(0).callback(result)
