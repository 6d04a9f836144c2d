"""Following a build: what was before, and then what comes, in order."""

from collections import OrderedDict

from twisted.internet.threads import deferToThreadPool

from nixery.builds.blocks import Block, BlockFile, lost
from nixery.builds.saving import IHistoryReactor
from nixery.builds.tail import Tail
from nixery.coalesce import Coalescer

_LATELY = 8
"""Blocks that were read lately and are kept: many who fell behind are often at one place."""


class Source:
    """Where a build's events are to be had: the last in memory, all on disk."""

    def __init__(
        self, reactor: IHistoryReactor, file: BlockFile, tail: Tail, ended: bool = False
    ) -> None:
        self.file = file
        self.tail = tail
        self.ended = ended
        """Whether there will be no more events."""
        self._reactor = reactor
        self._reading: Coalescer[int, Block | None] = Coalescer()
        self._lately: OrderedDict[int, Block] = OrderedDict()

    async def read(self, after: int) -> Block | None:
        """What is on disk behind an event, as far as it is in one block. Reads in a thread.

        :raises OSError: if the file can't be read.
        """
        start = self.file.start(after)
        block = self._lately.get(start)
        if block is None:
            pool = self._reactor.getThreadPool()
            block = await self._reading.join(
                start, lambda: deferToThreadPool(self._reactor, pool, self.file.read, start - 1)
            )
        if block is None:
            return None
        self._lately[start] = block
        self._lately.move_to_end(start)
        if len(self._lately) > _LATELY:
            self._lately.popitem(last=False)
        return block.after(after)


class Subscription:
    """A listener's place in a build's events.

    It holds nothing but that place: a listener takes the next events when it has room for them,
    so it may be as slow as it likes. What is no longer in memory is read from disk, in threads.
    """

    def __init__(self, source: Source, after: int) -> None:
        """
        :param after: the number of the last event that the listener knows.
        """
        self._source = source
        self._after = after

    @property
    def goes_on(self) -> bool:
        """Whether there may be more than is told by now."""
        return not self._source.ended

    @property
    def at_end(self) -> bool:
        """Whether all is told and there will be no more."""
        return self._source.ended and self._after >= self._source.tail.told

    async def next(self) -> Block | None:
        """The next events, as soon as there are any; nothing when there will be no more.

        May be cancelled, and called again.
        """
        source, tail = self._source, self._source.tail
        while True:
            block = tail.find(self._after)
            if block is None and source.file.last > self._after:
                block = await self._read()
            elif block is None and tail.told > self._after:
                block = self._lost()
            if block is not None:
                self._after = block.last
                return block
            if source.ended:
                return None
            await tail.more()

    async def _read(self) -> Block | None:
        try:
            return await self._source.read(self._after)
        except OSError:  # removed as too old, or the disk is broken
            return self._lost()

    def _lost(self) -> Block:
        last = self._source.tail.first - 1
        return lost(self._after, last, last - self._after)
