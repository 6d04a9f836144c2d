"""Following a build: what was before, and then what comes, in order."""

from collections.abc import Callable

from twisted.internet.threads import deferToThreadPool

from nixery.coalesce import Coalescer
from nixery.history.blocks import Block, BlockFile, lost
from nixery.history.event_buffer import Tail
from nixery.reactor import IReactor
from nixery.recent import Recent

MOST_READ = 8 * 1024 * 1024
"""Bytes of blocks that were read lately and are kept: many who fell behind are often at one
place."""

ReadLately = Recent[tuple[str, int], Block]
"""Blocks that were read lately, by their file and where they begin; of all builds."""


def read_lately(now: Callable[[], float]) -> ReadLately:
    """None yet."""
    forms = 2  # that a block is kept in, beside its own
    return Recent(now, MOST_READ, lambda block: (1 + forms) * len(block.data))


class Source:
    """Where a build's events are to be had: the last in memory, all on disk."""

    def __init__(
        self,
        reactor: IReactor,
        file: BlockFile,
        tail: Tail,
        lately: ReadLately,
        ended: bool = False,
    ) -> None:
        """
        :param lately: is shared by all sources.
        """
        self.file = file
        self.tail = tail
        self.ended = ended
        """Whether there will be no more events."""
        self._reactor = reactor
        self._reading: Coalescer[int, Block | None] = Coalescer()
        self._lately = lately

    async def read(self, after: int) -> Block | None:
        """What is on disk behind an event, as far as it is in one block. Reads in a thread.

        :raises OSError: if the file can't be read.
        """
        start = self.file.start(after)
        place = self.file.path, start
        block = self._lately.get(place)
        if block is None:
            pool = self._reactor.getThreadPool()
            block = await self._reading.join(
                start, lambda: deferToThreadPool(self._reactor, pool, self.file.read, start - 1)
            )
        if block is None:
            return None
        self._lately.put(place, block)
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

    async def next(self, most: int = MOST_READ) -> Block | None:
        """The next events, as soon as there are any; nothing when there will be no more.

        May be cancelled, and called again.

        :param most: bytes; a single event may have more.
        """
        source, tail = self._source, self._source.tail
        while True:
            block = tail.find(self._after)
            if block is None and source.file.last > self._after:
                block = await self._read()
            elif block is None and tail.told > self._after:
                block = self._lost()
            if block is not None:
                block = block.upto(most)
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
