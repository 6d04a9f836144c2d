"""A build in short: its head, and a summary of its events that stays small."""

from typing import Any, Literal

import attrs

from nixery.model import events
from nixery.model.events import Event

State = Literal["running", "done", "failed"]

LONGEST_ERROR = 300
"""Characters of an error in a list of builds."""
_MOST = 2000
"""Derivations, packages and layers that are named each; phases of a derivation: fewer."""
_MOST_PHASES = 50
_MOST_COLLISIONS = 200
_FACTS = (
    *(events.Resolved, events.BuildsPlanned, events.FetchesPlanned, events.FetchProgress),
    *(events.Realised, events.Furnished, events.Grouped),
)
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
    :param kind: of a failure: the name of its error's class; empty if that is not known.
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
    kind: str = ""

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

    def note(self, event: Event, seconds: float) -> None:
        """Take the next event.

        :param seconds: its time, since the epoch.
        """
        if isinstance(event, events.LogLine):  # first: there may be millions of them
            for derivation in self._building.get(event.derivation, [])[-1:]:
                derivation.lines += 1
        elif isinstance(event, _FACTS):
            self._facts[type(event).__name__] = attrs.asdict(event)
        elif isinstance(event, events.Queued):
            self._restart(event, seconds)
        elif isinstance(event, events.FetchStarted):
            self._fetching += 1
        else:
            self._note_derivation(event, seconds)
            self._note_contents(event)

    def _note_derivation(self, event: Event, seconds: float) -> None:
        match event:
            case events.BuildStarted(derivation=name):
                self._started(name, seconds)
            case events.PhaseStarted(derivation=name, phase=phase):
                for derivation in self._building.get(name, [])[-1:]:
                    if len(derivation.phases) < _MOST_PHASES:
                        derivation.phases.append((phase, seconds))
            case events.BuildStopped(derivation=name):
                self._stopped(name, seconds)
            case events.Failed(derivation=name):
                self._failed(name, seconds)

    def _note_contents(self, event: Event) -> None:
        match event:
            case events.Found() if len(self._packages) < _MOST:
                self._packages.append(attrs.asdict(event))
            case events.Measured(package=name, paths=paths, size=size):
                for package in self._packages:
                    if package["package"] == name:
                        package["closure"] = {"paths": paths, "size": size}
            case events.Collided():
                self._collided += 1
                if len(self._collisions) < _MOST_COLLISIONS:
                    self._collisions.append(attrs.asdict(event))
            case events.Packed(size=size, uncompressed=uncompressed, paths=paths):
                sizes = {"size": size, "uncompressed": uncompressed, "paths": len(paths)}
                self._layer(event.digest).update(sizes)
            case events.Stored(digest=digest):
                self._layer(digest)["stored"] = True

    @property
    def is_queued(self) -> bool:
        """Whether the build waits for its turn."""
        return "Queued" in self._facts and "Resolved" not in self._facts

    def document(self) -> dict[str, Any]:
        """The summary, as values that JSON can hold."""
        facts = self._facts
        return {
            "queued": facts["Queued"] if self.is_queued else None,
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

    def _restart(self, event: events.Queued, seconds: float) -> None:
        """The build waits for its turn; one that had a turn before starts over."""
        self._stop(seconds)
        self._packages.clear()
        self._collisions.clear()
        self._collided = self._fetching = 0
        self._facts = {"Queued": attrs.asdict(event)}

    def _started(self, name: str, seconds: float) -> None:
        if len(self._derivations) >= _MOST:
            self._omitted += 1
            return
        derivation = Derivation(name, seconds)
        self._derivations.append(derivation)
        # Two derivations may have one name.
        self._building.setdefault(name, []).append(derivation)

    def _stopped(self, name: str, seconds: float) -> None:
        if building := self._building.get(name):
            derivation = building.pop(0)
            derivation.state, derivation.ended = "ended", seconds
            if not building:
                del self._building[name]

    def _failed(self, name: str | None, seconds: float) -> None:
        self._stop(seconds)
        for derivation in self._derivations:
            if derivation.name == name:
                derivation.state = "failed"

    def _stop(self, seconds: float) -> None:
        for building in self._building.values():
            for derivation in building:
                derivation.state, derivation.ended = "stopped", seconds
        self._building.clear()

    def _layer(self, digest: str) -> dict[str, Any]:
        if len(self._layers) >= _MOST and digest not in self._layers:
            return {}
        return self._layers.setdefault(digest, {"digest": digest, "stored": False})
