"""A build in short: its head, and a summary of its events that stays small."""

from collections.abc import Callable
from typing import Any, Literal

import attrs

from nixery.model.events import (
    BuildsPlanned,
    BuildStarted,
    BuildStopped,
    Collided,
    Event,
    Failed,
    FetchesPlanned,
    FetchProgress,
    FetchStarted,
    Found,
    Furnished,
    Grouped,
    LogLine,
    Measured,
    Packed,
    PhaseStarted,
    Queued,
    Realised,
    Resolved,
    Stored,
)

State = Literal["running", "done", "failed"]

LONGEST_ERROR = 300
"""Characters of an error in a list of builds."""
_MOST = 2000
"""Derivations, packages and layers that are named each; phases of a derivation: fewer."""
_MOST_PHASES = 50
_MOST_COLLISIONS = 200
_FACTS = Resolved | BuildsPlanned | FetchesPlanned | FetchProgress | Realised | Furnished | Grouped
"""Events of which only the last one counts."""


@attrs.frozen
class BuildHead:
    """A build in one line.

    :param id: URL-safe; later builds have greater ones.
    :param key: the image key.
    :param started: seconds since the epoch.
    :param ended: seconds since the epoch.
    :param error: why it failed, for people to read.
    :param events: the number of its last event.
    :param complete: whether all events are on disk.
    """

    id: str
    key: str
    name: str
    tag: str
    started: float
    state: State = "running"
    ended: float | None = None
    digest: str | None = None
    error: str | None = None
    events: int = 0
    complete: bool = True

    @classmethod
    def parse(cls, document: Any) -> "BuildHead":
        """Parse what :func:`attrs.asdict` made.

        :raises ValueError: if it is something else.
        """
        try:
            head = cls(**document)
        except TypeError as error:
            raise ValueError("not the head of a build") from error
        for field in attrs.fields(cls):
            expected = str if field.type == State else field.type
            if not isinstance(getattr(head, field.name), expected):
                raise ValueError(f"not the head of a build: its {field.name}")
        return head


def brief(head: BuildHead) -> BuildHead:
    """The same, with an error short enough for a list."""
    if head.error is None or len(head.error) <= LONGEST_ERROR:
        return head
    return attrs.evolve(head, error=head.error[: LONGEST_ERROR - 1] + "…")


@attrs.define
class Derivation:
    """A derivation that Nix builds or has built.

    :param state: ``building``, ``ended`` (well or not: Nix does not say), ``failed``, or
        ``stopped`` if it was building when the image's build ended or gave way.
    :param started: seconds since the epoch.
    :param ended: seconds since the epoch.
    :param phases: the phases begun, with the time of each.
    :param lines: number of lines that it printed.
    """

    name: str
    started: float
    state: str = "building"
    ended: float | None = None
    phases: list[tuple[str, float]] = attrs.Factory(list)
    lines: int = 0


class Summary:
    """Summarises the events of a build; its size is bounded, however many there are."""

    def __init__(self) -> None:
        self._derivations: list[Derivation] = []
        self._building: dict[str, list[Derivation]] = {}
        self._packages: list[dict[str, Any]] = []
        self._collisions: list[dict[str, Any]] = []
        self._collided = 0
        self._layers: dict[str, dict[str, Any]] = {}
        self._facts: dict[str, Any] = {}
        self._omitted = 0
        self._fetching = 0
        self._handlers: dict[type, Callable[[Any, float], None]] = {
            Queued: self._queued,
            BuildStarted: self._started,
            BuildStopped: self._stopped,
            PhaseStarted: self._phase,
            LogLine: self._printed,
            Failed: self._failed,
            Packed: self._packed,
            Stored: self._stored,
            Found: self._found,
            Measured: self._measured,
            Collided: self._collision,
            FetchStarted: self._fetch,
        }

    def note(self, event: Event, seconds: float) -> None:
        """Take the next event.

        :param seconds: its time, since the epoch.
        """
        handler = self._handlers.get(type(event))
        if handler is not None:
            handler(event, seconds)
        elif isinstance(event, _FACTS):
            self._facts[type(event).__name__] = attrs.asdict(event)

    def document(self) -> dict[str, Any]:
        """The summary, as values that JSON can hold."""
        facts = self._facts
        return {
            "queued": facts.get("Queued") if "Resolved" not in facts else None,
            "source": facts.get("Resolved"),
            "packages": self._packages,
            "planned": {
                **facts.get("BuildsPlanned", {"derivations": 0}),
                **facts.get("FetchesPlanned", {"paths": 0, "download": 0, "unpacked": 0}),
            },
            "fetched": {
                "paths": self._fetching,
                **facts.get("FetchProgress", {"done": 0, "expected": 0}),
            },
            "derivations": [attrs.asdict(derivation) for derivation in self._derivations],
            "closure": facts.get("Realised"),
            "collided": {"count": self._collided, "first": self._collisions},
            "furnished": facts.get("Furnished"),
            "layers": {
                **facts.get("Grouped", {"layers": None, "known": None}),
                "made": list(self._layers.values()),
            },
            "omitted": self._omitted,
        }

    def _queued(self, event: Queued, seconds: float) -> None:
        """The build waits for its turn; one that had a turn before starts over."""
        self._stop(seconds)
        self._packages.clear()
        self._collisions.clear()
        self._collided = 0
        self._facts = {"Queued": attrs.asdict(event)}
        self._fetching = 0

    def _started(self, event: BuildStarted, seconds: float) -> None:
        if len(self._derivations) >= _MOST:
            self._omitted += 1
            return
        derivation = Derivation(event.derivation, seconds)
        self._derivations.append(derivation)
        # Two derivations may have one name.
        self._building.setdefault(event.derivation, []).append(derivation)

    def _stopped(self, event: BuildStopped, seconds: float) -> None:
        if building := self._building.get(event.derivation):
            derivation = building.pop(0)
            derivation.state, derivation.ended = "ended", seconds
            if not building:
                del self._building[event.derivation]

    def _phase(self, event: PhaseStarted, seconds: float) -> None:
        for derivation in self._building.get(event.derivation, [])[-1:]:
            if len(derivation.phases) < _MOST_PHASES:
                derivation.phases.append((event.phase, seconds))

    def _printed(self, event: LogLine, seconds: float) -> None:
        if building := self._building.get(event.derivation):
            building[-1].lines += 1

    def _failed(self, event: Failed, seconds: float) -> None:
        self._stop(seconds)
        for derivation in self._derivations:
            if derivation.name == event.derivation:
                derivation.state = "failed"

    def _stop(self, seconds: float) -> None:
        for building in self._building.values():
            for derivation in building:
                derivation.state, derivation.ended = "stopped", seconds
        self._building.clear()

    def _packed(self, event: Packed, seconds: float) -> None:
        self._layer(event.digest).update(
            size=event.size, uncompressed=event.uncompressed, paths=len(event.paths)
        )

    def _stored(self, event: Stored, seconds: float) -> None:
        self._layer(event.digest)["stored"] = True

    def _layer(self, digest: str) -> dict[str, Any]:
        if len(self._layers) >= _MOST and digest not in self._layers:
            return {}
        return self._layers.setdefault(digest, {"digest": digest, "stored": False})

    def _found(self, event: Found, seconds: float) -> None:
        if len(self._packages) < _MOST:
            self._packages.append(attrs.asdict(event))

    def _measured(self, event: Measured, seconds: float) -> None:
        for package in self._packages:
            if package["package"] == event.package:
                package["closure"] = {"paths": event.paths, "size": event.size}

    def _collision(self, event: Collided, seconds: float) -> None:
        self._collided += 1
        if len(self._collisions) < _MOST_COLLISIONS:
            self._collisions.append(attrs.asdict(event))

    def _fetch(self, event: FetchStarted, seconds: float) -> None:
        self._fetching += 1
