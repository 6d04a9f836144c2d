"""Builds that have ended, on disk and listed in memory, within the operator's limits."""

import os
from bisect import bisect_left, insort
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from typing import Any

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from nixery.history.folder import HistoryFolder, KeptBuild, ids_of
from nixery.history.summary import BuildHead
from nixery.model.limits import HistoryLimits
from nixery.reactor import IReactor, in_thread

_TAKE_AGAIN = 2.0
"""Seconds between two attempts to take a folder that another process uses."""
_AT_ONCE = 100
"""Builds that a thread reads in one go."""
_MOST_KEPT = 10_000
"""Builds that are kept, however small their files are."""


@attrs.define(eq=False)
class Archive:
    """The builds in a folder, in order.

    :param limits: how much is kept.
    :param now: the time in seconds since the epoch.
    :param on_loaded: called when all builds of earlier processes have been read.
    :param own: gives the IDs of this process's builds that are not in the archive.
    :ivar folder: the builds' files.
    :ivar alone: whether no other process uses the folder, as far as can be known.
    :ivar loaded: fires when all has been read that is to be read now.
    """

    _log = Logger()

    _reactor: IReactor
    _path: str
    limits: HistoryLimits
    _now: Callable[[], float]
    _on_loaded: Callable[[], Deferred[None]]
    _own: Callable[[], Collection[str]]
    folder: HistoryFolder = attrs.field(init=False)
    alone: bool = attrs.field(init=False, default=True)
    loaded: Deferred[None] = attrs.field(init=False, factory=partial(succeed, None))
    _kept: dict[str, KeptBuild] = attrs.field(init=False, factory=dict)
    _ids: list[str] = attrs.field(init=False, factory=list)  # in order
    _in_state: dict[str, list[str]] = attrs.field(init=False, factory=dict)  # in order
    # Builds that succeeded, in order, by name and tag.
    _images: dict[tuple[str, str], list[str]] = attrs.field(init=False, factory=dict)
    _size: int = attrs.field(init=False, default=0)
    _retry: IDelayedCall | None = attrs.field(init=False, default=None)
    _stopping: bool = attrs.field(init=False, default=False)

    def __attrs_post_init__(self) -> None:
        self.folder = HistoryFolder(self._path)

    def __contains__(self, id: str) -> bool:
        return id in self._kept

    def head(self, id: str) -> BuildHead | None:
        """A build in short, if it is here."""
        kept = self._kept.get(id)
        return None if kept is None else kept.head

    def ids(self, before: str | None = None, state: str | None = None) -> Iterator[str]:
        """The IDs of builds, the latest first, found as they are asked for; builds may come and go
        meanwhile.

        :param before: an ID: only those of older builds.
        :param state: only those of builds that ended so.
        """
        return _downward(self._ids if state is None else self._in_state.get(state, []), before)

    def latest(self, name: str, tag: str) -> BuildHead | None:
        """The last build of an image that succeeded."""
        ids = self._images.get((name, tag))
        return self._kept[ids[-1]].head if ids else None

    def add(self, kept: KeptBuild) -> None:
        """Add a build that is on disk."""
        head = kept.head
        self._kept[head.id] = kept
        self._size += kept.size
        insort(self._ids, head.id)
        insort(self._in_state.setdefault(head.state, []), head.id)
        if head.state == "done":
            insort(self._images.setdefault((head.name, head.tag), []), head.id)

    def drop_excess(self) -> list[str]:
        """Drop the oldest builds until the rest is within the limits; their files remain.

        :return: the IDs of dropped builds.
        """
        ended_before = self._now() - self.limits.seconds
        began_before = f"{int(1000 * ended_before):012x}"
        gone: list[str] = []
        size = self._size
        for id in self._ids:
            kept = self._kept[id]
            is_old = (kept.head.ended or 0) < ended_before
            is_much = size > self.limits.bytes or len(self._kept) - len(gone) > _MOST_KEPT
            if is_old or is_much:
                gone.append(id)
                size -= kept.size
            elif id >= began_before:  # all others began, and ended, later still
                break
        for id in gone:
            self._drop(id)
        return gone

    def _drop(self, id: str) -> None:
        kept = self._kept.pop(id)
        self._size -= kept.size
        for ids in (self._ids, self._in_state[kept.head.state]):
            del ids[bisect_left(ids, id)]
        image = (kept.head.name, kept.head.tag)
        if kept.head.state == "done":
            ids = self._images[image]
            ids.remove(id)
            if not ids:
                del self._images[image]

    async def save(self, head: BuildHead, details: dict[str, Any]) -> KeptBuild | None:
        """Write a build to disk.

        :return: None if that failed, which is logged.
        """
        try:
            return await in_thread(self._reactor, self.folder.save, head, details)
        except OSError as error:
            self._log.warn("build {id} can't be saved: {error}", id=head.id, error=error)
            return None

    async def start(self) -> None:
        """Take the folder and begin to read it in the background: there may be very much.

        A folder that can't be read or written is no error. One that another process uses is left
        alone until that process ends.
        """
        names = await self._take()
        if names is None:
            self.alone = False
            self._log.warn(
                "another daemon uses the state folder {path}: this one serves and makes "
                "images all the same, and shows the other's builds, and earlier ones, when the "
                "other has ended; daemons that run side by side need a state folder each "
                "(STATE_DIRECTORY)",
                path=os.path.dirname(self._path),
            )
            self._retry = self._reactor.callLater(_TAKE_AGAIN, self._take_over)
        else:
            self.loaded = Deferred.fromCoroutine(self._load(names))

    def stop(self) -> Deferred[None]:
        """Stop reading; fires when nothing is read any more."""
        self._stopping = True
        if self._retry is not None and self._retry.active():
            self._retry.cancel()
        return self.loaded

    async def _take(self) -> list[str] | None:
        """Take the folder.

        :return: the names of the files in it; None if another process uses it.
        """
        try:
            return await in_thread(self._reactor, self.folder.take)
        except BlockingIOError:
            return None
        except OSError as error:
            self._log.warn("history can't be kept in {path}: {error}", path=self._path, error=error)
            return []

    def _take_over(self) -> None:
        self.loaded = Deferred.fromCoroutine(self._try_to_take_over())

    async def _try_to_take_over(self) -> None:
        names = await self._take()
        if self._stopping:
            return
        if names is None:
            self._retry = self._reactor.callLater(_TAKE_AGAIN, self._take_over)
            return
        self.alone = True
        self._log.info(
            "the other daemon has ended: this one now uses {path}",
            path=os.path.dirname(self._path),
        )
        await self._load(names)

    async def _load(self, names: Sequence[str]) -> None:
        """Read builds from files, the latest first, some at a time."""
        ids = ids_of(names)
        for start in range(0, len(ids), _AT_ONCE):
            own = self._own()
            part = [id for id in ids[start : start + _AT_ONCE] if id not in own and id not in self]
            loaded = await in_thread(self._reactor, self.folder.load, part)
            if self._stopping:
                return
            for kept in loaded:
                self.add(kept)
        known, own = set(self._kept), set(self._own())
        gone = await in_thread(self._reactor, self.folder.clear, names, known, own)
        if gone:
            self._log.info(
                "removed {count} files of unreadable builds from {path}",
                count=len(gone),
                path=self._path,
            )
        await self._on_loaded()


def _downward(ids: list[str], before: str | None = None) -> Iterator[str]:
    """IDs that are in order, from the last one on; some may come and go meanwhile."""
    end = len(ids) if before is None else bisect_left(ids, before)
    while end > 0:
        id = ids[end - 1]
        yield id
        end = bisect_left(ids, id)
