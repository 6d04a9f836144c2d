"""The background work of a storage in a folder: it stays within its bound, and whole."""

from collections.abc import Callable, Sequence

from twisted.internet.defer import CancelledError, Deferred, DeferredLock, succeed
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger

from nixery.coalesce import Coalescer
from nixery.interfaces import Tidied
from nixery.model.limits import DiskLimits
from nixery.model.reading import Reading
from nixery.reactor import IReactor, in_thread
from nixery.repeats import Repeats
from nixery.storage.filesystem.files import storage_faults
from nixery.storage.filesystem.last_use import Marks
from nixery.storage.filesystem.pace import Stopped
from nixery.storage.filesystem.scrubbing import Scrubber
from nixery.storage.filesystem.shrinking import Shrinker

_UNTOLD = 12.0
"""Seconds for which answers are given from memory without the storage being told that their blobs
are of use."""
INTERVAL = 60.0
"""Seconds between two looks at how full it is, besides those after something was written."""
_COUNT = 3600.0
"""Seconds between two looks where there is no bound: for the metrics."""
_SOONEST = 5.0
"""Seconds between two times that blobs are verified: a small storage need not be read all the
time, and of a large one some are due each time."""
_AGAIN = 10.0
"""Seconds until what could not be made small enough is looked at again."""


class Housekeeping:
    """Drops what is too much, and what is damaged.

    :ivar size: bytes of all blobs, as far as known.
    :ivar count: how many blobs there were when they were counted last.
    :ivar dropped: blobs that were dropped for others.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: IReactor,
        folder: str,
        marks: Marks,
        aside: Callable[[], str],
        limits: DiskLimits,
    ) -> None:
        """
        :param aside: gives a new path on the same file system.
        """
        self.size = 0
        self.count = 0
        self.dropped = 0
        self.scrubber = Scrubber(folder, aside)
        self._reactor = reactor
        self._folder = folder
        self._limits = limits
        untold = min(_UNTOLD, limits.storage_grace)
        grace = limits.storage_grace + marks.fresh + untold
        self._shrinker = Shrinker(folder, marks, aside, limits.storage_max, grace)
        self._shrinking: Coalescer[None, None] = Coalescer()
        self._dropping = DeferredLock()
        self._full = False
        self._not_before = 0.0
        self._loop = LoopingCall(self._shrink)
        self._loop.clock = reactor
        self._scrubbing: Deferred[None] | None = None
        self._stopped = False
        self._repeats = Repeats(reactor.seconds)

    def start(self) -> None:
        """Begin; harmless when it has begun."""
        if self._loop.running:
            return
        self._loop.start(_COUNT if self._limits.storage_max is None else INTERVAL)
        if self._limits.scrub_days:
            self._scrubbing = Deferred.fromCoroutine(self._scrub(self._limits.scrub_days * 86400))
            self._scrubbing.addErrback(lambda failure: failure.trap(CancelledError))

    def stop(self) -> None:
        """Stop background work."""
        self._stopped = True
        self.scrubber.stop()
        self._shrinker.pace.stop()
        if self._loop.running:
            self._loop.stop()
        if self._scrubbing is not None:
            self._scrubbing.cancel()

    def readings(self) -> list[Reading]:
        """The metrics of the storage."""
        scrubber = self.scrubber
        return [
            Reading(
                "nixery_storage_bytes",
                "Bytes of the blobs in the storage, as far as known.",
                lambda: self.size,
            ),
            Reading(
                "nixery_storage_blobs",
                "Blobs in the storage, when they were counted last.",
                lambda: self.count,
            ),
            Reading(
                "nixery_storage_dropped",
                "Blobs that were dropped for others.",
                lambda: self.dropped,
                total=True,
            ),
            Reading(
                "nixery_blobs_verified",
                "Blobs that were verified in the background, and how they were.",
                lambda: {
                    "good": scrubber.verified - scrubber.damaged,
                    "damaged": scrubber.damaged,
                },
                "state",
                total=True,
            ),
        ]

    @property
    def busy(self) -> bool:
        """Whether blobs are being looked through and dropped."""
        return len(self._shrinking) > 0 or self._dropping.locked

    async def drop(self, names: Sequence[str], used: bool) -> list[str]:
        """Drop some blobs, by their names: see :meth:`Shrinker.drop`.

        :return: those that stay.
        :raises StorageUnavailable: if that fails.
        """

        def drop() -> list[str]:
            with storage_faults(self._folder):
                return self._shrinker.drop(names, used)

        return await self._dropping.run(in_thread, self._reactor, drop)

    async def tidy(self) -> Tidied:
        """Drop what is too much now."""
        before = self.dropped
        await self._shrink()
        return Tidied(self.dropped - before, self.size, self.count)

    def wrote(self, size: int) -> None:
        """A blob was written.

        :param size: bytes.
        """
        self.size += size
        most = self._limits.storage_max
        if most is not None and self.size > most and self._reactor.seconds() >= self._not_before:
            self._shrink()

    def _shrink(self) -> Deferred[None]:
        return succeed(None) if self._stopped else self._shrinking.join(None, self._shrink_once)

    async def _shrink_once(self) -> None:
        try:
            shrunk = await self._dropping.run(in_thread, self._reactor, self._shrinker.shrink)
        except Stopped:
            return
        except Exception as error:
            text = "nothing could be dropped: {error}"
            self._repeats.warn(self._log, text + str(error), text, error=str(error))
            return
        self.size, self.count = shrunk.size, shrunk.left
        self.dropped += shrunk.blobs
        if shrunk.blobs:
            self._log.info(
                "dropped the {blobs} least recently used blobs; {size} bytes are left",
                blobs=shrunk.blobs,
                size=shrunk.size,
            )
        most = self._limits.storage_max
        full = most is not None and shrunk.size > most
        if full:
            self._not_before = self._reactor.seconds() + _AGAIN
            if not self._full:
                self._log.warn(
                    "the storage holds {size} bytes, more than its limit: all are in use now",
                    size=shrunk.size,
                )
        self._full = full

    async def _scrub(self, seconds: float) -> None:
        """Verify all blobs, round and round.

        :param seconds: that a round takes.
        """
        wait = _SOONEST
        while not self._stopped:
            await deferLater(self._reactor, wait, lambda: None)
            began = self._reactor.seconds()
            try:
                due, damage = await in_thread(self._reactor, self.scrubber.next, seconds, _SOONEST)
            except (CancelledError, Stopped):
                return
            except Exception as error:
                text = "a blob was not verified: {error}"
                self._repeats.warn(self._log, text + str(error), text, error=str(error))
                wait = INTERVAL
                continue
            if damage:
                self._log.error("dropped {damage}", damage=damage)
            # The time that it took to read them is no pause: a round may have a lot to read.
            wait = max(0.0, due - (self._reactor.seconds() - began))
