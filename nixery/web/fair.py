"""Turns of clients at work that may take a bounded share of the time."""

from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

_LONGEST_REST = 1.0
"""Seconds between two turns, however long the first was: it may have waited for others."""


class FairTurns:
    """One turn at a time, and a rest after each; clients go round, whatever each of them asks."""

    def __init__(self, clock: IReactorTime, share: float = 0.25) -> None:
        """
        :param share: of the time that turns may take together.
        """
        self._clock = clock
        self._rest = 1 / share - 1
        self._taken = False
        self._waiting: OrderedDict[str, deque[Deferred[None]]] = OrderedDict()

    @property
    def waiting(self) -> int:
        """How many wait for their turn."""
        return sum(map(len, self._waiting.values()))

    @asynccontextmanager
    async def turn(self, client: str) -> AsyncIterator[None]:
        """Wait for a client's turn, and have it for the length of a block."""
        if self._taken:
            await self._wait(client)
        self._taken = True
        began = self._clock.seconds()
        try:
            yield
        finally:
            spent = self._clock.seconds() - began
            self._clock.callLater(min(_LONGEST_REST, spent * self._rest), self._next)

    def _wait(self, client: str) -> Deferred[None]:
        def leave(waiter: Deferred[None]) -> None:
            queue.remove(waiter)
            if not queue:
                del self._waiting[client]

        queue = self._waiting.setdefault(client, deque())
        waiter: Deferred[None] = Deferred(leave)
        queue.append(waiter)
        return waiter

    def _next(self) -> None:
        """Give the turn to the client that has waited longest since its last one."""
        if not self._waiting:
            self._taken = False
            return
        client, queue = self._waiting.popitem(last=False)
        waiter = queue.popleft()
        if queue:
            self._waiting[client] = queue
        waiter.callback(None)
