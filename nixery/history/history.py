"""The histories of builds: those that run, and those of the last days."""

import os
import secrets
import time
from bisect import bisect_left
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar
from weakref import WeakValueDictionary

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from nixery.history.blocks import BlockFile
from nixery.history.build_log import Journal
from nixery.history.event_buffer import Bounds, Tail
from nixery.history.folder import Kept, Shelf, ids_of
from nixery.history.record import Record
from nixery.history.subscription import Source, Subscription, read_lately
from nixery.history.summary import Head
from nixery.reactor import IReactor

T = TypeVar("T")

_TAKE_AGAIN = 2.0
"""Seconds between two looks whether another process still has the folder."""
_AT_ONCE = 100
"""Builds that are read in one go by a thread."""
_TIDY = 3600.0
"""Seconds between two looks for what is too old."""
_MOST_KEPT = 10_000
"""Builds that are remembered, however small their files are."""
_MOST_UNSAVED = 20
"""Builds that have ended and are in memory, since they could not be written."""


@attrs.frozen
class Limits:
    """How long, and how much of, history is kept on disk.

    :param seconds: after its end, a build is kept for so long.
    :param bytes: of all files together; a build that runs may have a quarter of it.
    """

    seconds: float = 7 * 86400
    bytes: int = 1_000_000_000


class History:
    """Remembers builds, in memory and in a folder."""

    _log = Logger()

    def __init__(
        self,
        reactor: IReactor,
        folder: str,
        limits: Limits | None = None,
        bounds: Bounds | None = None,
        now: Callable[[], float] = time.time,
        on_end: Callable[[Record], None] = lambda record: None,
    ) -> None:
        """
        :param on_end: is told of every build that has ended.
        :param bounds: what a build that runs takes of memory.
        :param now: the time in seconds since the epoch.
        """
        self._reactor = reactor
        self._folder = folder
        self._shelf = Shelf(folder)
        self._limits = limits or Limits()
        self._bounds = bounds or Bounds()
        self._now = now
        self._on_end = on_end
        self._lately = read_lately(reactor.seconds)
        self._sources: WeakValueDictionary[str, Source] = WeakValueDictionary()
        self._records: dict[str, Record] = {}
        self._kept: dict[str, Kept] = {}
        self._ending: dict[str, Deferred[None]] = {}
        self._begun: dict[str, Deferred[Kept | None]] = {}
        self._newest = 0
        self._timer: IDelayedCall | None = None
        self._again: IDelayedCall | None = None
        self._loading: Deferred[None] = succeed(None)
        self._stopping = False

    async def start(self) -> None:
        """Begin to read what earlier processes wrote, which goes on in the background: there may be
        very much. That nothing can be read or written is no error.

        Where another process has the folder, its builds are left alone until it ends.
        """
        names = await self._take()
        if names is None:
            self._log.warn(
                "another daemon uses the state folder {path} already: this one serves and makes "
                "images all the same, and shows the builds of the other, and earlier ones, when "
                "that one has ended; two that are to run beside each other need two state folders "
                "(STATE_DIRECTORY)",
                path=os.path.dirname(self._folder),
            )
            self._again = self._reactor.callLater(_TAKE_AGAIN, self._take_over)
        else:
            self._load(names)
        await self._tidy_and_again()

    async def loaded(self) -> None:
        """Wait until all is read that is to be read now."""
        await self._loading

    @property
    def alone(self) -> bool:
        """Whether no other process uses the folder, as far as can be known."""
        return self._again is None

    async def stop(self) -> None:
        """Wait until all builds that have ended are on disk."""
        self._stopping = True
        for timer in (self._timer, self._again):
            if timer is not None and timer.active():
                timer.cancel()
        await self._loading
        for ending in list(self._ending.values()):
            await ending
        self.leave()

    async def _take(self) -> list[str] | None:
        """Have the folder.

        :return: the names of the files in it; none if another process has it.
        """
        try:
            return await self._in_thread(self._shelf.take)
        except BlockingIOError:
            return None
        except OSError as error:
            self._log.warn(
                "{path} is no place for history: {error}", path=self._folder, error=error
            )
            return []

    def _take_over(self) -> None:
        self._loading = Deferred.fromCoroutine(self._take_over_now())

    async def _take_over_now(self) -> None:
        names = await self._take()
        if self._stopping:
            return
        if names is None:
            self._again = self._reactor.callLater(_TAKE_AGAIN, self._take_over)
            return
        self._again = None
        self._log.info(
            "the other daemon has ended: {path} is this one's own now",
            path=os.path.dirname(self._folder),
        )
        await self._load_all(names)

    def _load(self, names: Sequence[str]) -> None:
        self._loading = Deferred.fromCoroutine(self._load_all(names))

    async def _load_all(self, names: Sequence[str]) -> None:
        """Read the builds of some files, the latest first, some at a time."""
        ids = ids_of(names)
        for start in range(0, len(ids), _AT_ONCE):
            part = [id for id in ids[start : start + _AT_ONCE] if self.head(id) is None]
            kept = await self._in_thread(partial(self._shelf.load, part))
            if self._stopping:
                return
            self._kept.update({each.head.id: each for each in kept})
        known, own = set(self._kept), set(self._records)
        gone = await self._in_thread(lambda: self._shelf.clear(names, known, own))
        if gone:
            self._log.info(
                "removed {count} files of builds that can't be read from {path}",
                count=len(gone),
                path=self._folder,
            )
        await self._tidy()

    def leave(self) -> None:
        """Let another process have the folder. Builds that run may still be written."""
        self._shelf.leave()

    def begin(self, key: str, name: str, tag: str, request: str = "") -> Record:
        """A build begins.

        :param key: the image key.
        :param request: what the request that it is for is called in the log.
        """
        head = Head(self._new_id(), key, name, tag, self._now())
        path, limit = self._shelf.events(head.id), self._limits.bytes // 4
        journal = Journal(self._reactor, f"{name}:{tag}", head.id, request)
        bounds, ended = self._bounds, self._ended
        lately = self._lately
        record = Record(self._reactor, self._now, head, path, bounds, limit, ended, journal, lately)
        self._records[head.id] = record
        self._begun[head.id] = Deferred.fromCoroutine(self._save(head, {}))
        return record

    def heads(self, before: str | None = None) -> list[Head]:
        """All builds, the latest first.

        :param before: an ID: only those that are older.
        """
        # In order already, but for a few.
        ids = sorted(dict.fromkeys([*self._kept, *self._records]))
        if before is not None:
            del ids[bisect_left(ids, before) :]
        return [self._head(id) for id in reversed(ids)]

    def head(self, id: str) -> Head | None:
        """A build in a line, if it is known."""
        return self._head(id) if id in self._records or id in self._kept else None

    def waiting(self, id: str) -> int:
        """How many clients wait for a build."""
        record = self._records.get(id)
        return 0 if record is None or record.source.ended else record.waiting()

    async def details(self, id: str) -> dict[str, Any]:
        """What else is to be said of a build, as JSON can hold it."""
        if id in self._records:
            return self._records[id].details()
        return await self._in_thread(lambda: self._shelf.details(id))

    async def whole_error(self, id: str) -> str | None:
        """Why a build failed, if it did; the head of one that has ended has no more of it than
        :data:`nixery.history.summary.LONGEST_ERROR`."""
        if id in self._records:
            return self._records[id].head.error
        return await self._in_thread(lambda: self._shelf.error(id)) or self._kept[id].head.error

    async def follow(self, id: str, after: int) -> Subscription | None:
        """A listener's own view of a build's events, if the build is known.

        :param after: the number of the last event that the listener knows; 0 for none.
        """
        if id in self._records:
            return Subscription(self._records[id].source, after)
        if id not in self._kept:
            return None
        if id in self._sources:
            return Subscription(self._sources[id], after)
        head, file = self._kept[id].head, BlockFile(self._shelf.events(id))
        tail = Tail(self._reactor, self._bounds, lambda block: None)
        tail.last = tail.told = head.events
        try:
            await self._in_thread(file.scan)
        except OSError as error:
            self._log.warn("{path} can't be read: {error}", path=file.path, error=error)
        self._sources[id] = source = Source(self._reactor, file, tail, self._lately, ended=True)
        return Subscription(source, after)

    def _head(self, id: str) -> Head:
        return self._records[id].head if id in self._records else self._kept[id].head

    def _new_id(self) -> str:
        """Sixteen hexadecimal digits: milliseconds, and what makes it this process's own."""
        while True:
            self._newest = max(self._newest + 1, int(self._now() * 1000))
            id = f"{self._newest:012x}{secrets.randbelow(1 << 16):04x}"
            if id not in self._kept:
                return id

    def _ended(self, record: Record) -> None:
        self._on_end(record)
        self._ending[record.id] = Deferred.fromCoroutine(self._finish(record))

    async def _finish(self, record: Record) -> None:
        await record.saved()
        await self._begun.pop(record.id)
        kept = await self._save(record.head, record.details())
        if kept is not None:
            self._kept[record.id] = kept
        if kept is not None and record.head.complete:
            del self._records[record.id]
        del self._ending[record.id]
        await self._tidy()

    async def _save(self, head: Head, details: dict[str, Any]) -> Kept | None:
        try:
            return await self._in_thread(lambda: self._shelf.save(head, details))
        except OSError as error:
            self._log.warn("build {id} can't be noted: {error}", id=head.id, error=error)
            return None

    async def _tidy_and_again(self) -> None:
        await self._tidy()
        self._timer = self._reactor.callLater(_TIDY, self._start_tidying)

    def _start_tidying(self) -> None:
        Deferred.fromCoroutine(self._tidy_and_again())

    async def _tidy(self) -> None:
        """Remove the oldest until the rest is within the limits."""
        unsaved = [id for id, record in self._records.items() if record.source.ended]
        forgotten = sorted(set(unsaved) - set(self._ending))[:-_MOST_UNSAVED]
        for id in forgotten:
            del self._records[id]
        total = sum(kept.size for kept in self._kept.values())
        gone: list[str] = []
        now = self._now()
        recent = f"{int(1000 * (now - self._limits.seconds)):012x}"
        for id in sorted(self._kept):
            kept = self._kept[id]
            count = len(self._kept) - len(gone)
            old = (kept.head.ended or 0) < now - self._limits.seconds
            if old or total > self._limits.bytes or count > _MOST_KEPT:
                gone.append(id)
                total -= kept.size
            elif id >= recent:  # the rest was begun later still
                break
        for id in gone:
            del self._kept[id]
            if id in self._records and self._records[id].source.ended:
                del self._records[id]
        # Some of what could not be noted as a whole may be on disk, where nobody counts it.
        gone += [id for id in forgotten if id not in self._kept and id not in gone]
        if gone:
            await self._in_thread(lambda: self._shelf.remove(gone))

    def _in_thread(self, work: Callable[[], T]) -> "Deferred[T]":
        return deferToThreadPool(self._reactor, self._reactor.getThreadPool(), work)
