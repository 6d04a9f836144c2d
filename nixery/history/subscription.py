"""Following a build: past events, then new ones as they come, in order."""

import attrs

from nixery.coalesce import Coalescer
from nixery.history.blocks import Block, BlockFile, lost
from nixery.history.event_buffer import EventBuffer
from nixery.reactor import IReactor, in_thread
from nixery.recent import Recent

MOST_READ = 8 * 1024 * 1024
"""Bytes of recently read blocks that are kept: late listeners are often at one place."""

RecentBlocks = Recent[tuple[str, int], Block]
"""Recently read blocks of all builds, by file and number of the first event."""


@attrs.define(eq=False)
class EventSource:
    """A build's events: the last ones in memory, all on disk.

    :param ended: whether there will be no more events.
    """

    _reactor: IReactor
    file: BlockFile
    buffer: EventBuffer
    _recent: RecentBlocks
    ended: bool = False
    _reading: Coalescer[int, Block | None] = attrs.field(init=False, factory=Coalescer)

    async def read(self, after: int) -> Block | None:
        """The events on disk that follow event ``after``, as far as they are in one block.

        :raises OSError: if the file can't be read.
        """
        start = self.file.start(after)
        place = self.file.path, start
        block = self._recent.get(place)
        if block is None:
            block = await self._reading.join(
                start, lambda: in_thread(self._reactor, self.file.read, start - 1)
            )
        if block is None:
            return None
        self._recent.put(place, block)
        return block.after(after)


@attrs.define(eq=False)
class Subscription:
    """A listener's place in a build's events, and nothing more: listeners may be slow.

    Events that are no longer in memory are read from disk, in threads.

    :param after: the number of the last event that the listener has.
    """

    _source: EventSource
    _after: int

    @property
    def goes_on(self) -> bool:
        """Whether the build may have more events."""
        return not self._source.ended

    @property
    def at_end(self) -> bool:
        """Whether the listener has all events and no more will come."""
        return self._source.ended and self._after >= self._source.buffer.published

    async def next(self, most: int = MOST_READ) -> Block | None:
        """The next events, as soon as there are any; None after the last.

        May be cancelled, and called again.

        :param most: bytes; a single event may be longer.
        """
        source, buffer = self._source, self._source.buffer
        while True:
            block = buffer.find(self._after)
            if block is None and source.file.last > self._after:
                block = await self._read()
            elif block is None and buffer.published > self._after:
                block = self._lost()
            if block is not None:
                block = block.upto(most)
                self._after = block.last
                return block
            if source.ended:
                return None
            await buffer.more()

    async def _read(self) -> Block | None:
        try:
            return await self._source.read(self._after)
        except OSError:  # removed as too old, or the disk is broken
            return self._lost()

    def _lost(self) -> Block:
        last = self._source.buffer.first - 1
        return lost(self._after, last, last - self._after)
