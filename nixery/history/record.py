"""A build that runs, as its history is written."""

from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.defer import Deferred

from nixery.history.blocks import BlockFile
from nixery.history.build_log import Journal
from nixery.history.event_buffer import Bounds, Tail
from nixery.history.subscription import ReadLately, Source
from nixery.history.summary import Head, Summary
from nixery.history.timing import Timing
from nixery.history.writer import Saver
from nixery.model.event_json import line
from nixery.model.events import Asked, Done, Event, Failed, LogLine, Traced
from nixery.reactor import IReactor


class Record:
    """Takes what happens in one build; tells it to listeners, the disk and the daemon's log."""

    def __init__(
        self,
        reactor: IReactor,
        now: Callable[[], float],
        head: Head,
        path: str,
        bounds: Bounds,
        limit: int,
        on_end: Callable[["Record"], None],
        journal: Journal,
        lately: ReadLately,
    ) -> None:
        """
        :param now: the time in seconds since the epoch.
        :param path: the file for its events.
        :param limit: bytes that it may have.
        :param on_end: is told when the last event was taken.
        :param journal: tells the daemon's log.
        :param lately: keeps what listeners had read from disk.
        """
        self.waiting: Callable[[], int] = lambda: 0
        """Says how many clients wait for it."""
        self._now = now
        self._head = head
        self._on_end = on_end
        self._most = 0
        self.outcome = "done"
        """How it ended, in a word."""
        self._summary = Summary()
        self.timing = Timing(head.started)
        self._journal = journal
        file = BlockFile(path)
        tail = Tail(reactor, bounds, lambda block: self._saver.put(block))
        self._saver = Saver(reactor, file, limit, tail.saved)
        self.source = Source(reactor, file, tail, lately)

    @property
    def id(self) -> str:
        """The build's name in addresses."""
        return self._head.id

    @property
    def head(self) -> Head:
        """The build in a line, as it is now."""
        complete = self._saver.fault is None
        return attrs.evolve(self._head, events=self.source.tail.last, complete=complete)

    def details(self) -> dict[str, Any]:
        """What else is to be said of it, as JSON can hold it."""
        return {**self._summary.document(), "fault": self._saver.fault}

    def asked(self, waiting: int) -> None:
        """So many clients wait for it now."""
        if waiting > self._most:
            self._most = waiting
            self.emit(Asked(waiting))

    def emit(self, event: Event) -> None:
        """Take an event. Those that come after the end are passed over."""
        if self.source.ended:
            return
        if not isinstance(event, LogLine):  # there may be millions of them
            self._journal.emit(event)
        if not isinstance(event, Traced):
            self._take(event)

    def done(self, digest: str) -> None:
        """The build succeeded.

        :param digest: the manifest's.
        """
        self._journal.done(digest)
        self._end(Done(digest), state="done", digest=digest)

    def failed(
        self,
        reason: str,
        derivation: str | None = None,
        outcome: str = "failed",
        in_full: str | None = None,
    ) -> None:
        """The build failed.

        :param outcome: the kind of failure, in a word.
        :param derivation: the one that failed to build, if one did.
        :param in_full: the reason with what the daemon's log alone is told; none for the same.
        """
        self.outcome = outcome
        self._journal.failed(in_full or reason, outcome)
        self._end(Failed(reason, derivation), state="failed", error=reason)

    def saved(self) -> Deferred[None]:
        """Fires when all is on disk, or lost; to be asked once, after the end."""

        def forget(_: None) -> None:
            if self._saver.fault is None:
                self.source.tail.clear()

        return self._saver.finish().addCallback(forget)

    def _end(self, event: Event, **facts: Any) -> None:
        self._take(event)
        self._head = attrs.evolve(self._head, ended=self._now(), **facts)
        self.timing.end(self._head.ended or 0)
        self.source.ended = True
        self.source.tail.flush()
        self._on_end(self)

    def _take(self, event: Event) -> None:
        seconds = self._now()
        self._summary.note(event, seconds)
        self.timing.note(event, seconds)
        tail = self.source.tail
        tail.add(line(tail.last + 1, seconds, event))
