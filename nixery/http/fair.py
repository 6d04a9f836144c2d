"""Turns of clients: at beginning requests, and at work that may take a share of the time."""

from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

T = TypeVar("T")

_SLICE = 0.005
"""Seconds of a round of the reactor in which requests are begun."""
_FEW = 8
"""Requests of a client at once; docker loads three layers, containerd and others some more."""
_LONGEST_REST = 1.0
"""Seconds between two turns, however long the first was: it may have waited for others."""


class _Rounds(Generic[T]):
    """Things that clients wait for, taken in turns of clients."""

    def __init__(self) -> None:
        self._queues: OrderedDict[str, deque[T]] = OrderedDict()

    def __len__(self) -> int:
        return sum(map(len, self._queues.values()))

    def __bool__(self) -> bool:
        return bool(self._queues)

    def put(self, client: str, item: T) -> None:
        """Have something of a client's wait."""
        self._queues.setdefault(client, deque()).append(item)

    def take(self) -> T:
        """The first of the client that has waited longest since its last turn."""
        client, queue = self._queues.popitem(last=False)
        item = queue.popleft()
        if queue:
            self._queues[client] = queue
        return item

    def remove(self, client: str, item: T) -> None:
        """Forget something that waits."""
        queue = self._queues[client]
        queue.remove(item)
        if not queue:
            del self._queues[client]


class FairTurns:
    """One turn at a time, and a rest after each; clients go round, whatever each of them asks."""

    def __init__(self, clock: IReactorTime, share: float = 0.1) -> None:
        """
        :param share: of the time that turns may take together.
        """
        self._clock = clock
        self._rest = 1 / share - 1
        self._taken = False
        self._waiting = _Rounds[Deferred[None]]()

    @property
    def waiting(self) -> int:
        """How many wait for their turn."""
        return len(self._waiting)

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
        waiter: Deferred[None] = Deferred(lambda left: self._waiting.remove(client, left))
        self._waiting.put(client, waiter)
        return waiter

    def _next(self) -> None:
        if self._waiting:
            self._waiting.take().callback(None)
        else:
            self._taken = False


class FairStarts:
    """Begins what clients ask for: at once where there is time, else in turns of clients.

    In each round of the reactor no more is begun than takes some milliseconds. Clients of which
    few requests are being answered go first, so a client that pulls an image waits for one
    request of each other such client, and hardly for those that ask for as much as they may.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._left = _SLICE
        self._few = _Rounds[Callable[[], object]]()
        self._many = _Rounds[Callable[[], object]]()
        self._round: IDelayedCall | None = None

    def has_time(self, running: int) -> bool:
        """Whether a request may begin at once.

        :param running: its client's requests that are being answered, with this one.
        """
        return self._left > 0 and not self._few and (running <= _FEW or not self._many)

    def begin(self, start: Callable[[], T]) -> T:
        """Begin at once, which counts for this round."""
        began = self._clock.seconds()
        try:
            return start()
        finally:
            self.spend(self._clock.seconds() - began)

    def spend(self, seconds: float) -> None:
        """Count some time for this round.

        What takes little may count for the next ones, too: a call for each would take more.
        """
        self._left -= seconds
        if self._left < _SLICE / 2:
            self._expect()

    def later(self, client: str, running: int, start: Callable[[], None]) -> None:
        """Begin in a client's turn.

        :param running: as for :meth:`has_time`.
        """
        (self._few if running <= _FEW else self._many).put(client, start)
        self._expect()

    def _expect(self) -> None:
        if self._round is None:
            self._round = self._clock.callLater(0, self._next_round)

    def _next_round(self) -> None:
        self._round, self._left = None, _SLICE
        if self._many:  # one in each round, so that none waits for ever
            self.begin(self._many.take())
        while self._left > 0 and (waiting := self._few or self._many):
            self.begin(waiting.take())
        if self._few or self._many:
            self._expect()
