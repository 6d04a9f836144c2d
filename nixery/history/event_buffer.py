"""The last events of a running build, in memory, and the listeners that wait for more."""

from collections import deque
from collections.abc import Callable

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from nixery.history.blocks import Block


@attrs.frozen
class BufferBounds:
    """How much memory the events of a running build may take.

    :param events: number of events kept once they are on disk.
    :param bytes: of the events kept once they are on disk.
    :param most: bytes of events kept whether they are on disk or not.
    :param block: bytes of a block.
    :param delay: seconds that an event waits for others before it is published.
    """

    events: int = 10_000
    bytes: int = 1024 * 1024
    most: int = 64 * 1024 * 1024
    block: int = 64 * 1024
    delay: float = 0.05


@attrs.define(eq=False)
class EventBuffer:
    """Collects events into blocks; drops the oldest when they are on disk and over the bounds.

    :param on_block: called with each new block, in order.
    :param last: the number of the last event.
    :param published: the number of the last event that is in a block.
    """

    _clock: IReactorTime
    _bounds: BufferBounds
    _on_block: Callable[[Block], None]
    last: int = 0
    published: int = 0
    _lines: list[bytes] = attrs.field(init=False, factory=list)
    _pending: int = attrs.field(init=False, default=0)
    _timer: IDelayedCall | None = attrs.field(init=False, default=None)
    _blocks: deque[Block] = attrs.field(init=False, factory=deque)
    _size: int = attrs.field(init=False, default=0)
    _saved: int = attrs.field(init=False, default=0)
    _waiting: list[Deferred[None]] = attrs.field(init=False, factory=list)

    def add(self, line: bytes) -> None:
        """Append the next event, as a line."""
        self.last += 1
        self._lines.append(line)
        self._pending += len(line)
        if self._pending >= self._bounds.block:
            self.flush()
        elif self._timer is None:
            self._timer = self._clock.callLater(self._bounds.delay, self.flush)

    def flush(self) -> None:
        """Publish pending events as a block, and wake all listeners."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        if self._lines:
            block = Block(self.published + 1, self.last, b"".join(self._lines))
            self._lines, self._pending, self.published = [], 0, self.last
            self._blocks.append(block)
            self._size += len(block.data)
            self._on_block(block)
            self._drop_excess()
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if not waiter.called:
                waiter.callback(None)

    def saved(self, number: int) -> None:
        """Note that all events up to a number are on disk, or lost."""
        self._saved = number
        self._drop_excess()

    def clear(self) -> None:
        """Drop all blocks that are on disk, or lost."""
        while self._blocks and self._blocks[0].last <= self._saved:
            self._drop()

    def find(self, after: int) -> Block | None:
        """The events that follow event ``after`` and are in one block; None if not in memory."""
        if after + 1 < self.first:
            return None
        for block in reversed(self._blocks):
            if block.first <= after + 1 <= block.last:
                return block.after(after)
        return None

    @property
    def first(self) -> int:
        """The number of the first event in memory, or of the next one if there is none."""
        return self._blocks[0].first if self._blocks else self.published + 1

    def more(self) -> Deferred[None]:
        """Fires at the next :meth:`flush`; may be cancelled."""
        waiter: Deferred[None] = Deferred(lambda left: self._waiting.remove(left))
        self._waiting.append(waiter)
        return waiter

    def _drop(self) -> None:
        self._size -= len(self._blocks.popleft().data)

    def _drop_excess(self) -> None:
        while self._blocks and self._is_over():
            self._drop()

    def _is_over(self) -> bool:
        if self._blocks[0].last > self._saved:
            return self._size > self._bounds.most
        return (
            self._size > self._bounds.bytes or self.published + 1 - self.first > self._bounds.events
        )
