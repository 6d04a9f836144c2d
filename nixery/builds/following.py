"""Following a build: what was before, and then what comes, in order."""

import attrs
from twisted.internet.threads import deferToThreadPool

from nixery.builds.blocks import Block, BlockFile, lost
from nixery.builds.saving import IHistoryReactor
from nixery.builds.tail import Tail


@attrs.define(eq=False)
class Source:
    """Where a build's events are to be had: the last in memory, all on disk.

    :ivar ended: whether there will be no more.
    """

    reactor: IHistoryReactor
    file: BlockFile
    tail: Tail
    ended: bool = False


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
        source = self._source
        pool = source.reactor.getThreadPool()
        try:
            return await deferToThreadPool(source.reactor, pool, source.file.read, self._after)
        except OSError:  # removed as too old, or the disk is broken
            return self._lost()

    def _lost(self) -> Block:
        last = self._source.tail.first - 1
        return lost(self._after, last, last - self._after)
