"""The last events of a running build, in memory, and those who wait for more of them."""

from collections import deque
from collections.abc import Callable

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from nixery.history.blocks import Block


@attrs.frozen
class Bounds:
    """What a running build's history takes of memory.

    :param events: events that are kept in memory, if they are on disk too.
    :param bytes: bytes of them.
    :param most: bytes that are kept whether they are on disk or not.
    :param block: bytes of a block of events.
    :param delay: seconds that an event waits for others before it is told.
    """

    events: int = 10_000
    bytes: int = 1024 * 1024
    most: int = 64 * 1024 * 1024
    block: int = 64 * 1024
    delay: float = 0.05


class Tail:
    """Collects events into blocks, which it keeps until they are on disk and too many."""

    def __init__(
        self, clock: IReactorTime, bounds: Bounds, on_block: Callable[[Block], None]
    ) -> None:
        """
        :param on_block: is told of each block, once, in order.
        """
        self.last = 0
        """The number of the last event."""
        self.told = 0
        """The number of the last event that is in a block."""
        self._clock = clock
        self._bounds = bounds
        self._on_block = on_block
        self._lines: list[bytes] = []
        self._gathered = 0
        self._timer: IDelayedCall | None = None
        self._blocks: deque[Block] = deque()
        self._size = 0
        self._saved = 0
        self._waiting: list[Deferred[None]] = []

    def add(self, line: bytes) -> None:
        """Take the line of the event after the last."""
        self.last += 1
        self._lines.append(line)
        self._gathered += len(line)
        if self._gathered >= self._bounds.block:
            self.flush()
        elif self._timer is None:
            self._timer = self._clock.callLater(self._bounds.delay, self._timed)

    def flush(self) -> None:
        """Make a block of what is there, and tell it."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        if self._lines:
            block = Block(self.told + 1, self.last, b"".join(self._lines))
            self._lines, self._gathered, self.told = [], 0, self.last
            self._blocks.append(block)
            self._size += len(block.data)
            self._on_block(block)
            self._drop()
        self.wake()

    def saved(self, number: int) -> None:
        """Events up to a number need not be kept any more: they are on disk, or lost."""
        self._saved = number
        self._drop()

    def clear(self) -> None:
        """Keep none of those that need not be kept."""
        while self._blocks and self._blocks[0].last <= self._saved:
            self._size -= len(self._blocks.popleft().data)

    def find(self, after: int) -> Block | None:
        """The block with the event behind one, from there; nothing if it is kept no more."""
        if not self._blocks or after + 1 < self._blocks[0].first:
            return None
        for block in reversed(self._blocks):
            if block.first <= after + 1 <= block.last:
                return block.after(after)
        return None

    @property
    def first(self) -> int:
        """The number of the first event that is kept; of the next one if none is."""
        return self._blocks[0].first if self._blocks else self.told + 1

    def more(self) -> Deferred[None]:
        """Fires with the next block, or when there will be none; may be cancelled."""
        waiter: Deferred[None] = Deferred(lambda left: self._waiting.remove(left))
        self._waiting.append(waiter)
        return waiter

    def wake(self) -> None:
        """Let those look again who wait."""
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if not waiter.called:
                waiter.callback(None)

    def _timed(self) -> None:
        self._timer = None
        self.flush()

    def _drop(self) -> None:
        while self._blocks and self._is_much():
            self._size -= len(self._blocks.popleft().data)

    def _is_much(self) -> bool:
        if self._blocks[0].last > self._saved:
            return self._size > self._bounds.most
        count = self.told + 1 - self._blocks[0].first
        return self._size > self._bounds.bytes or count > self._bounds.events
