"""Places where a bounded number of things is done at once, given to clients in turn."""

from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from twisted.internet.defer import Deferred


class Slots:
    """A place goes to each client that waits for one, round and round, and among the requests of
    one client to the oldest: one that asks for a hundred things delays nobody by more than one."""

    def __init__(self, at_once: int = 1) -> None:
        """
        :param at_once: places.
        """
        self._free = at_once
        self._waiting: OrderedDict[str, OrderedDict[Deferred[None], None]] = OrderedDict()

    def __len__(self) -> int:
        """How many wait."""
        return sum(map(len, self._waiting.values()))

    @asynccontextmanager
    async def place(self, client: str) -> AsyncIterator[None]:
        """Wait for a place, and have it.

        :param client: who it is for.
        """
        await self._enter(client)
        try:
            yield
        finally:
            self._leave()

    def _enter(self, client: str) -> Deferred[None]:
        turn: Deferred[None] = Deferred(lambda turn: self._give_up(client, turn))
        if self._free:
            self._free -= 1
            turn.callback(None)
        else:
            self._waiting.setdefault(client, OrderedDict())[turn] = None
        return turn

    def _leave(self) -> None:
        if not self._waiting:
            self._free += 1
            return
        client = next(iter(self._waiting))
        self._waiting.move_to_end(client)
        turn = next(iter(self._waiting[client]))
        self._give_up(client, turn)
        turn.callback(None)

    def _give_up(self, client: str, turn: Deferred[None]) -> None:
        turns = self._waiting[client]
        del turns[turn]
        if not turns:
            del self._waiting[client]
