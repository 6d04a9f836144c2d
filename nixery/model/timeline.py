"""The steps of a build, with the times at which they began and ended: pure.

They follow from the build's events alone: see :mod:`nixery.model.events`.
"""

from collections.abc import Mapping, Sequence

import attrs

from nixery.model import events
from nixery.model.events import Event

MOST = 1000
"""Derivations, and layers, that have a step each; further ones are counted."""
_MOST_PHASES = 50
_MOST_TURNS = 100
"""Waits in the queue that have a step each."""


@attrs.define(eq=False)
class Step:
    """A part of a build.

    :param name: ``queue`` until its turn, ``evaluate``, ``realise`` for what Nix builds and
        fetches, ``build`` of a derivation, ``furnish`` for the root file system and the grouping of
        layers, ``pack``, or ``store`` of a layer.
    :param began: seconds since the epoch.
    :param ended: seconds since the epoch; None as long as it goes on.
    :param within: the step that it is a part of; None for the build itself.
    :param facts: what it was about, by names as OpenTelemetry has them.
    :param marks: what happened meanwhile, with the times: the phases of a derivation.
    :param fault: why it failed; empty if it did not.
    """

    name: str
    began: float
    ended: float | None = None
    within: "Step | None" = None
    facts: dict[str, str | int] = attrs.Factory(dict)
    marks: list[tuple[str, float]] = attrs.Factory(list)
    fault: str = ""

    def end(self, seconds: float) -> None:
        """Note its end, which is not before its beginning, even if the clock was set back."""
        self.ended = max(seconds, self.began)


class Timeline:
    """Takes the events of one build, in order."""

    def __init__(self) -> None:
        self._steps: list[Step] = []
        self._main: Step | None = None
        self._building: dict[str, list[Step]] = {}
        self._storing: dict[str, Step] = {}
        self._counts: dict[str, int] = {}
        self.facts: dict[str, str | int] = {}

    def note(self, event: Event, seconds: float) -> None:
        """Take the next event.

        :param seconds: its time, since the epoch.
        """
        match event:
            case events.Queued():
                self._end_all(seconds)
                self._begin("queue", seconds, _MOST_TURNS)
            case events.Resolved(source=source, revision=revision):
                self.facts |= {"nixery.source": source, "nixery.revision": revision}
            case events.Evaluating():
                self._turn_to("evaluate", seconds)
            case events.BuildsPlanned() | events.FetchesPlanned() | events.FetchStarted():
                self._realise(seconds)
            case events.BuildStarted() | events.PhaseStarted() | events.BuildStopped():
                self._note_derivation(event, seconds)
            case events.Failed(message=message, derivation=derivation):
                self._fail(message, derivation)
                self._end_all(seconds)
            case events.Done():
                self._end_all(seconds)
            case _:
                self._note_layers(event, seconds)

    def steps(self, until: float) -> Sequence[Step]:
        """All steps, each behind the one that it is a part of.

        :param until: seconds since the epoch, when what goes on still has ended.
        """
        self._end_all(until)
        for name, count in self._counts.items():
            if count > MOST:
                self.facts[f"nixery.omitted.{name}"] = count - MOST
        return self._steps

    def _note_derivation(self, event: Event, seconds: float) -> None:
        match event:
            case events.BuildStarted(derivation=name):
                self._realise(seconds)
                facts = {"nixery.derivation": name}
                step = self._begin("build", seconds, MOST, self._main, facts)
                if step is not None:  # two derivations may have one name
                    self._building.setdefault(name, []).append(step)
            case events.PhaseStarted(derivation=name, phase=phase):
                for step in self._building.get(name, [])[-1:]:
                    if len(step.marks) < _MOST_PHASES:
                        step.marks.append((phase, seconds))
            case events.BuildStopped(derivation=name):
                if steps := self._building.get(name):
                    steps.pop(0).end(seconds)

    def _note_layers(self, event: Event, seconds: float) -> None:
        match event:
            case events.Realised(paths=paths, size=size):
                self.facts |= {"nixery.closure.paths": paths, "nixery.closure.size": size}
                self._turn_to("furnish", seconds)
            case events.Grouped(layers=layers, known=known):
                self.facts |= {"nixery.layers": layers, "nixery.layers.known": known}
                self._turn_to("pack", seconds)
            case events.Packed(digest=digest, size=size):
                facts: dict[str, str | int] = {"nixery.digest": digest, "nixery.size": size}
                step = self._begin("store", seconds, MOST, self._main, facts)
                if step is not None:
                    self._storing[digest] = step
            case events.Stored(digest=digest):
                if (step := self._storing.pop(digest, None)) is not None:
                    step.end(seconds)

    def _realise(self, seconds: float) -> None:
        """Nix has found the packages, and turns to what it has to build or fetch."""
        if self._main is None or self._main.name != "realise":
            self._turn_to("realise", seconds)

    def _turn_to(self, name: str, seconds: float) -> None:
        self._end_all(seconds)
        self._main = self._begin(name, seconds, MOST)

    def _begin(
        self,
        name: str,
        seconds: float,
        most: int,
        within: Step | None = None,
        facts: Mapping[str, str | int] | None = None,
    ) -> Step | None:
        self._counts[name] = count = self._counts.get(name, 0) + 1
        if count > most:
            return None
        step = Step(name, seconds, within=within, facts=dict(facts or {}))
        self._steps.append(step)
        return step

    def _fail(self, message: str, derivation: str | None) -> None:
        failed = [each for each in self._steps if each.facts.get("nixery.derivation") == derivation]
        for step in failed[-1:] if derivation else ():
            step.fault = message
        if self._main is not None:
            self._main.fault = message

    def _end_all(self, seconds: float) -> None:
        for step in self._steps:
            if step.ended is None:
                step.end(seconds)
        self._main = None
        self._building.clear()
        self._storing.clear()
