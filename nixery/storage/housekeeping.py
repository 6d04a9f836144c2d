"""What a storage in a folder does in the background: it stays within its bound, and whole."""

from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure

from nixery.model.reading import Reading
from nixery.repeats import Repeats
from nixery.storage.last_use import Marks
from nixery.storage.scrubbing import Scrubber, Stopped
from nixery.storage.shrinking import Shrinker, Shrunk

INTERVAL = 60.0
"""Seconds between two looks at how full it is, besides those after something was written."""
_COUNT = 3600.0
"""Seconds between two looks where there is no bound: for what is told of it."""
_SOONEST = 5.0
"""Seconds between two times that blobs are verified: a small storage need not be read all the
time, and of a large one some are due each time."""
_AGAIN = 10.0
"""Seconds until what could not be made small enough is looked at again."""


@attrs.frozen
class Bounds:
    """What holds for a storage in a folder.

    :param most: bytes of its blobs; none for no bound.
    :param grace: seconds in which nothing of an image is dropped that was asked for, or made.
    :param scrub_days: in which every blob is verified once; 0 for never.
    """

    most: int | None = None
    grace: float = 600
    scrub_days: float = 0

    @property
    def fresh(self) -> float:
        """Seconds by which a blob's last use may be later than its mark says."""
        return min(30.0, self.grace / 4)


class Housekeeping:
    """Drops what is too much, and what is damaged.

    :ivar size: bytes of all blobs, as far as known.
    :ivar count: how many blobs there were when they were counted last.
    :ivar dropped: blobs that were dropped for others.
    """

    _log = Logger()

    def __init__(
        self, reactor: Any, folder: str, marks: Marks, aside: Callable[[], str], bounds: Bounds
    ) -> None:
        """
        :param reactor: provides time and threads.
        :param aside: gives a new path on the same file system.
        """
        self.size = 0
        self.count = 0
        self.dropped = 0
        self.scrubber = Scrubber(folder, aside)
        self._reactor = reactor
        self._bounds = bounds
        grace = bounds.grace + bounds.fresh
        self._shrinker = Shrinker(folder, marks, aside, bounds.most, grace)
        self._shrinking: Deferred[None] | None = None
        self._full = False
        self._not_before = 0.0
        self._loop = LoopingCall(self._shrink)
        self._loop.clock = reactor
        self._scrub: IDelayedCall | None = None
        self._stopped = False
        self._repeats = Repeats(reactor.seconds)

    def start(self) -> None:
        """Begin; harmless when it has begun."""
        if self._loop.running:
            return
        self._loop.start(_COUNT if self._bounds.most is None else INTERVAL)
        if self._bounds.scrub_days:
            self._scrub = self._reactor.callLater(_SOONEST, self._scrub_next)

    def stop(self) -> None:
        """Do nothing any more."""
        self._stopped = True
        self.scrubber.stop()
        if self._loop.running:
            self._loop.stop()
        if self._scrub is not None and self._scrub.active():
            self._scrub.cancel()

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
        return self._shrinking is not None

    def wrote(self, size: int) -> None:
        """A blob was written.

        :param size: bytes.
        """
        self.size += size
        most = self._bounds.most
        if most is not None and self.size > most and self._reactor.seconds() >= self._not_before:
            self._shrink()

    def _shrink(self) -> "Deferred[None]":
        if self._shrinking is None and not self._stopped:
            pool = self._reactor.getThreadPool()
            shrinking = deferToThreadPool(self._reactor, pool, self._shrinker.shrink)
            self._shrinking = shrinking.addCallbacks(self._shrunk, self._failed)
        return Deferred() if self._shrinking is None else _following(self._shrinking)

    def _shrunk(self, shrunk: Shrunk) -> None:
        self._shrinking = None
        self.size, self.count = shrunk.size, shrunk.left
        self.dropped += shrunk.blobs
        if shrunk.blobs:
            self._log.info(
                "dropped {blobs} blobs that were of no use for longest; {size} bytes are left",
                blobs=shrunk.blobs,
                size=shrunk.size,
            )
        full = self._bounds.most is not None and shrunk.size > self._bounds.most
        if full:
            self._not_before = self._reactor.seconds() + _AGAIN
            if not self._full:
                self._log.warn(
                    "the storage holds {size} bytes, more than it may: all is of use at the moment",
                    size=shrunk.size,
                )
        self._full = full

    def _failed(self, failure: Failure) -> None:
        self._shrinking = None
        text, error = "nothing could be dropped: {error}", failure.getErrorMessage()
        self._repeats.warn(self._log, text + error, text, error=error)

    def _scrub_next(self) -> None:
        seconds = self._bounds.scrub_days * 86400
        pool, began = self._reactor.getThreadPool(), self._reactor.seconds()
        looking = deferToThreadPool(self._reactor, pool, self.scrubber.next, seconds, _SOONEST)
        looking.addCallbacks(self._scrubbed, self._not_scrubbed, (began,))

    def _scrubbed(self, result: tuple[float, str], began: float) -> None:
        seconds, damage = result
        if damage:
            self._log.error("dropped {damage}", damage=damage)
        # What it took to read them is no pause: there may be a lot to read in a round.
        self._scrub_later(max(0.0, seconds - (self._reactor.seconds() - began)))

    def _not_scrubbed(self, failure: Failure) -> None:
        if failure.check(Stopped) is None:
            text, error = "a blob was not verified: {error}", failure.getErrorMessage()
            self._repeats.warn(self._log, text + error, text, error=error)
        self._scrub_later(INTERVAL)

    def _scrub_later(self, seconds: float) -> None:
        if not self._stopped:
            self._scrub = self._reactor.callLater(seconds, self._scrub_next)


def _following(shared: Deferred[None]) -> Deferred[None]:
    own: Deferred[None] = Deferred()
    shared.addCallback(lambda _: own.callback(None))
    return own
