"""The history of builds: those that run, and those of the last days."""

import secrets
import time
from collections.abc import Callable, Iterator
from heapq import merge
from itertools import groupby
from typing import Any
from weakref import WeakValueDictionary

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from nixery.history.archive import Archive
from nixery.history.blocks import BlockFile
from nixery.history.event_buffer import BufferBounds, EventBuffer
from nixery.history.record import Record
from nixery.history.subscription import MOST_READ, EventSource, RecentBlocks, Subscription
from nixery.history.summary import BuildHead
from nixery.model.limits import HistoryLimits
from nixery.reactor import IReactor, in_thread

_TIDY = 3600.0
"""Seconds between two removals of builds that have become too old."""
_MOST_UNSAVED = 20
"""Ended builds that stay in memory because they could not be written."""


class History:
    """Remembers builds, in memory and in a folder."""

    _log = Logger()

    def __init__(
        self,
        reactor: IReactor,
        folder: str,
        limits: HistoryLimits | None = None,
        bounds: BufferBounds | None = None,
        now: Callable[[], float] = time.time,
        on_end: Callable[[Record], None] = lambda record: None,
    ) -> None:
        """
        :param bounds: how much memory a running build may take.
        :param now: the time in seconds since the epoch.
        :param on_end: called with every build that has ended.
        """
        self._reactor = reactor
        self._bounds = bounds or BufferBounds()
        self._now = now
        self._on_end = on_end
        # A block is kept in up to two other forms beside its own.
        self._read = RecentBlocks(reactor.seconds, MOST_READ, lambda block: 3 * len(block.data))
        self._sources: WeakValueDictionary[str, EventSource] = WeakValueDictionary()
        self._records: dict[str, Record] = {}
        limits = limits or HistoryLimits()
        self._archive = Archive(reactor, folder, limits, now, self._tidy, lambda: self._records)
        self._ending: dict[str, Deferred[None]] = {}
        self._begun: dict[str, Deferred[Any]] = {}
        self._newest = 0
        self._tidying = LoopingCall(self._tidy)
        self._tidying.clock = reactor

    async def start(self) -> None:
        """Begin to read what earlier processes wrote: see :meth:`Archive.start`."""
        await self._archive.start()
        self._tidying.start(_TIDY)

    async def loaded(self) -> None:
        """Wait until all that is to be read now has been read."""
        await self._archive.loaded

    @property
    def alone(self) -> bool:
        """Whether no other process uses the folder, as far as can be known."""
        return self._archive.alone

    async def stop(self) -> None:
        """Wait until all builds that have ended are on disk."""
        if self._tidying.running:
            self._tidying.stop()
        await self._archive.stop()
        for ending in list(self._ending.values()):
            await ending
        self.leave()

    def leave(self) -> None:
        """Let another process have the folder. Running builds may still be written."""
        self._archive.folder.leave()

    def begin(self, key: str, name: str, tag: str, request: str = "") -> Record:
        """Begin to record a build.

        :param key: the image key.
        :param request: the ID in the log of the request that the build is made for.
        """
        head = BuildHead(self._new_id(), key, name, tag, self._now())
        archive = self._archive
        path, limit = archive.folder.events(head.id), archive.limits.bytes // 4
        record = Record(
            self._reactor,
            self._now,
            head,
            path,
            self._bounds,
            limit,
            self._ended,
            request,
            self._read,
        )
        self._records[head.id] = record
        self._begun[head.id] = Deferred.fromCoroutine(archive.save(head, {}))
        return record

    def heads(self, before: str | None = None, state: str | None = None) -> Iterator[BuildHead]:
        """Builds, the latest first; each is looked up when it is asked for.

        :param before: an ID: only older builds.
        :param state: only builds in this state, as :meth:`state` has it.
        """
        own = sorted((id for id in self._records if before is None or id < before), reverse=True)
        for id, _ in groupby(merge(own, self._archive.ids(before, state), reverse=True)):
            if (head := self.head(id)) is not None and state in (None, self.state(head)):
                yield head

    def running(self) -> list[BuildHead]:
        """The builds that run, or wait for their turn, the latest first."""
        records = (record for record in self._records.values() if not record.source.ended)
        return [record.head for record in sorted(records, key=lambda r: r.id, reverse=True)]

    def latest(self, name: str, tag: str) -> BuildHead | None:
        """The last build of an image that succeeded."""
        heads = [record.head for record in self._records.values()]
        heads = [h for h in heads if h.state == "done" and (h.name, h.tag) == (name, tag)]
        if (kept := self._archive.latest(name, tag)) is not None:
            heads.append(kept)
        return max(heads, key=lambda head: head.id, default=None)

    def head(self, id: str) -> BuildHead | None:
        """A build in short, if it is known."""
        if id in self._records:
            return self._records[id].head
        return self._archive.head(id)

    def waiting(self, id: str) -> int:
        """How many clients wait for a build."""
        record = self._records.get(id)
        return 0 if record is None or record.source.ended else record.waiting()

    def state(self, head: BuildHead) -> str:
        """The state of a build: that of its head, or ``queued`` if it waits for its turn."""
        record = self._records.get(head.id)
        is_queued = head.state == "running" and record is not None and record.is_queued
        return "queued" if is_queued else head.state

    async def in_full(self, head: BuildHead) -> tuple[BuildHead, dict[str, Any]]:
        """A build whose error is not cut as in lists, and its summary, as values that JSON can
        hold; as much of it as can be read."""
        if head.id in self._records:
            record = self._records[head.id]
            return record.head, record.details()
        return await in_thread(self._reactor, self._archive.folder.in_full, head)

    async def follow(self, id: str, after: int) -> Subscription | None:
        """A listener's own view of a build's events; None if the build is not known.

        :param after: the number of the last event that the listener has; 0 for none.
        """
        if id in self._records:
            return Subscription(self._records[id].source, after)
        if (head := self._archive.head(id)) is None:
            return None
        if id in self._sources:
            return Subscription(self._sources[id], after)
        file = BlockFile(self._archive.folder.events(id))
        end = head.events
        buffer = EventBuffer(self._reactor, self._bounds, lambda block: None, end, end)
        try:
            await in_thread(self._reactor, file.scan)
        except OSError as error:
            self._log.warn("{path} can't be read: {error}", path=file.path, error=error)
        self._sources[id] = source = EventSource(self._reactor, file, buffer, self._read, True)
        return Subscription(source, after)

    def _new_id(self) -> str:
        """Sixteen hexadecimal digits: twelve of the time in milliseconds, four at random."""
        while True:
            self._newest = max(self._newest + 1, int(self._now() * 1000))
            id = f"{self._newest:012x}{secrets.randbelow(1 << 16):04x}"
            if id not in self._archive:
                return id

    def _ended(self, record: Record) -> None:
        self._on_end(record)
        self._ending[record.id] = Deferred.fromCoroutine(self._finish(record))

    async def _finish(self, record: Record) -> None:
        await record.saved()
        await self._begun.pop(record.id)
        kept = await self._archive.save(record.head, record.details())
        if kept is not None:
            self._archive.add(kept)
            if record.head.complete:
                del self._records[record.id]
        del self._ending[record.id]
        await self._tidy()

    def _tidy(self) -> Deferred[None]:
        """Forget, and remove from disk, what is beyond the limits."""
        ended = {id for id, record in self._records.items() if record.source.ended}
        forgotten = sorted(ended - self._ending.keys())[:-_MOST_UNSAVED]
        gone = self._archive.drop_excess()
        for id in {*forgotten, *(ended & set(gone))}:
            del self._records[id]
        # What could not be saved as a whole may be on disk in part, where nobody counts it.
        gone += [id for id in forgotten if id not in self._archive and id not in gone]
        return (
            in_thread(self._reactor, self._archive.folder.remove, gone) if gone else succeed(None)
        )
