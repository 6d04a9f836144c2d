"""A running build, as it is recorded."""

from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.defer import Deferred

from nixery.history.blocks import BlockFile
from nixery.history.build_log import BuildLog
from nixery.history.event_buffer import BufferBounds, EventBuffer
from nixery.history.subscription import EventSource, RecentBlocks
from nixery.history.summary import BuildHead, Summary
from nixery.history.writer import EventWriter
from nixery.model import events
from nixery.model.event_json import line
from nixery.model.events import Event
from nixery.reactor import IReactor


class Record:
    """Takes one build's events; passes them to listeners, the disk and the daemon's log.

    :ivar request: the ID in the log of the request that the build is made for.
    :ivar waiting: counts the clients that wait for the build.
    :ivar outcome: how the build ended, in a word.
    """

    def __init__(
        self,
        reactor: IReactor,
        now: Callable[[], float],
        head: BuildHead,
        path: str,
        bounds: BufferBounds,
        limit: int,
        on_end: Callable[["Record"], None],
        request: str,
        recent: RecentBlocks,
    ) -> None:
        """
        :param now: the time in seconds since the epoch.
        :param path: the file for the events.
        :param limit: the most bytes of that file.
        :param on_end: called after the last event.
        """
        self.request = request
        self.waiting: Callable[[], int] = lambda: 0
        self.outcome = "done"
        self.timing = PhaseTimes(head.started)
        self._now = now
        self._head = head
        self._on_end = on_end
        self._most_waiting = 0
        self._summary = Summary()
        self._log = BuildLog(reactor, f"{head.name}:{head.tag}", head.id, request)
        file = BlockFile(path)
        buffer = EventBuffer(reactor, bounds, lambda block: self._writer.put(block))
        self._writer = EventWriter(reactor, file, limit, buffer.saved)
        self.source = EventSource(reactor, file, buffer, recent)

    @property
    def id(self) -> str:
        """The build's ID."""
        return self._head.id

    @property
    def head(self) -> BuildHead:
        """The build in short, as of now."""
        complete = self._writer.fault is None
        return attrs.evolve(self._head, events=self.source.buffer.last, complete=complete)

    @property
    def is_queued(self) -> bool:
        """Whether the build waits for its turn."""
        return self._summary.is_queued

    def details(self) -> dict[str, Any]:
        """The build's summary, as values that JSON can hold."""
        return {**self._summary.document(), "fault": self._writer.fault}

    def asked(self, waiting: int) -> None:
        """Note how many clients wait now."""
        if waiting > self._most_waiting:
            self._most_waiting = waiting
            self.emit(events.Asked(waiting))

    def emit(self, event: Event) -> None:
        """Take an event; ignored after the end."""
        if self.source.ended:
            return
        if not isinstance(event, events.LogLine):  # there may be millions of them
            self._log.emit(event)
        if not isinstance(event, events.Traced):
            self._take(event)

    def done(self, digest: str) -> None:
        """Note that the build succeeded.

        :param digest: the manifest's.
        """
        self._log.done(digest)
        self._end(events.Done(digest), state="done", digest=digest)

    def failed(
        self,
        reason: str,
        derivation: str | None = None,
        outcome: str = "failed",
        in_full: str | None = None,
    ) -> None:
        """Note that the build failed.

        :param derivation: the one that failed to build, if any.
        :param outcome: the kind of failure, in a word.
        :param in_full: the reason for the daemon's log, if that may say more.
        """
        self.outcome = outcome
        self._log.failed(in_full or reason, outcome)
        self._end(events.Failed(reason, derivation), state="failed", error=reason, kind=outcome)

    def saved(self) -> Deferred[None]:
        """Fires when all events are on disk, or lost. To be called once, after the end."""

        def clear(_: None) -> None:
            if self._writer.fault is None:
                self.source.buffer.clear()

        return self._writer.finish().addCallback(clear)

    def _end(self, event: Event, **facts: Any) -> None:
        self._take(event)
        ended = self._now()
        self._head = attrs.evolve(self._head, ended=ended, **facts)
        self.timing.end(ended)
        self.source.ended = True
        self.source.buffer.flush()
        self._on_end(self)

    def _take(self, event: Event) -> None:
        seconds = self._now()
        self._summary.note(event, seconds)
        self.timing.note(event, seconds)
        buffer = self.source.buffer
        buffer.add(line(buffer.last + 1, seconds, event))


class PhaseTimes:
    """How long the phases of a build took, and how many layers it made.

    :ivar phases: seconds by phase: ``queue`` until its turn, ``nix`` for evaluating, building and
        fetching, ``layers`` for grouping, packing and storing. A build that gives way is in the
        queue again.
    :ivar layers: counts of ``known`` and ``made`` layers, and the compressed ``bytes`` of the
        latter.
    """

    def __init__(self, began: float) -> None:
        """
        :param began: seconds since the epoch.
        """
        self.phases: dict[str, float] = {}
        self.layers = {"known": 0, "made": 0, "bytes": 0}
        self._phase = "queue"
        self._since = began

    def note(self, event: Event, seconds: float) -> None:
        """Take the next event.

        :param seconds: its time, since the epoch.
        """
        match event:
            case events.Queued():
                self._begin("queue", seconds)
            case events.Resolved():
                self._begin("nix", seconds)
            case events.Realised():
                self._begin("layers", seconds)
            case events.Grouped(known=known):
                self.layers["known"] = known
            case events.Packed(size=size):
                self.layers["made"] += 1
                self.layers["bytes"] += size

    def end(self, seconds: float) -> None:
        """End the last phase."""
        self._begin("", seconds)

    def _begin(self, phase: str, seconds: float) -> None:
        spent = max(0.0, seconds - self._since)  # the system's clock may be set back
        self.phases[self._phase] = self.phases.get(self._phase, 0.0) + spent
        self._phase, self._since = phase, seconds
