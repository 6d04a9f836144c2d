"""A bounded number of tasks at once; those that wait go by rank."""

from collections.abc import Awaitable, Callable
from heapq import heappop, heappush
from itertools import count
from typing import TypeVar

from twisted.internet.defer import Deferred

T = TypeVar("T")


class Slots:
    """Runs tasks, so many at once: of those that wait, the lowest rank first, then the first."""

    def __init__(self, most: int) -> None:
        """
        :param most: tasks that run at once.
        """
        self._free = most
        self._numbers = count()
        self._handing = False
        self._waiting: list[tuple[int, int, Deferred[None]]] = []

    async def run(self, rank: int, task: Callable[[], Awaitable[T]]) -> T:
        """Run a task in its turn.

        :param rank: who has a lower one goes first.
        """
        if self._free and not self._waiting:
            self._free -= 1
        else:
            turn: Deferred[None] = Deferred()
            heappush(self._waiting, (rank, next(self._numbers), turn))
            await turn  # hands the slot over
        try:
            return await task()
        finally:
            self._next()

    def _next(self) -> None:
        self._free += 1
        if self._handing:
            return  # a task that was begun here has ended already; no recursion for each
        self._handing = True
        while self._free and self._waiting:
            turn = heappop(self._waiting)[2]
            if not turn.called:  # nobody waits for one that was cancelled
                self._free -= 1
                turn.callback(None)
        self._handing = False
