"""How far a build is, by its events: evaluation, downloads, builds, layers."""

from typing import Any

from nixery.cli.output import size_text
from nixery.model.text import readable

_PARTS = {"waiting": 0.0, "evaluating": 0.02, "downloading": 0.1, "building": 0.4, "packing": 0.8}
"""How much of the whole is done when a phase begins, as a bar shows it."""


class Steps:
    """The state of one image that is being made.

    :ivar phase: ``asking``, ``waiting``, ``evaluating``, ``downloading``, ``building``,
        ``packing``, ``done`` or ``failed``.
    :ivar digest: of its manifest, in the end.
    :ivar error: why it was not made.
    """

    def __init__(self) -> None:
        self.phase = "asking"
        self.digest: str | None = None
        self.error: str | None = None
        self._planned = {"derivations": 0, "paths": 0, "done": 0, "expected": 0}
        self._built = self._fetched = self._stored = self._layers = 0
        self._building: list[str] = []

    def note(self, event: dict[str, Any]) -> bool:
        """Take an event of the build.

        :return: whether it changes what is shown.
        """
        note = getattr(self, f"_note_{event['type'].replace('-', '_')}", None)
        if note is None:
            return False
        note(event)
        return True

    def end(self, digest: str | None, error: str | None) -> None:
        """Take the outcome."""
        self.phase = "failed" if error else "done"
        self.digest, self.error = digest, error

    def part(self) -> float:
        """How much of the whole is done, from 0 to 1."""
        if self.phase in ("done", "failed"):
            return 1.0
        names = list(_PARTS)
        if self.phase not in names:
            return 0.0
        begin = _PARTS[self.phase]
        behind = [*_PARTS.values(), 1.0][names.index(self.phase) + 1]
        done, total = {
            "downloading": (self._planned["done"], self._planned["expected"]),
            "building": (self._built, self._planned["derivations"]),
            "packing": (self._stored, self._layers),
        }.get(self.phase, (0, 0))
        return begin + (behind - begin) * (min(1.0, done / total) if total else 0.0)

    def words(self) -> str:
        """What is being done, for people."""
        planned = self._planned
        match self.phase:
            case "downloading":
                sizes = f"{size_text(planned['done'])} of {size_text(planned['expected'])}"
                return f"downloading, {sizes}" if planned["expected"] else "downloading"
            case "building":
                name = f": {readable(self._building[-1])}" if self._building else ""
                total = max(self._built, planned["derivations"])
                return f"building, {self._built} of {total}{name}"
            case "packing":
                return f"packing, {self._stored} of {self._layers} layers"
            case "done":
                return f"ready, {self.digest}"
            case "failed":
                return "failed"
            case _:
                return self.phase

    def _note_queued(self, event: dict[str, Any]) -> None:
        self.__init__()  # type: ignore[misc]  # it starts over, if it had its turn before
        self.phase = "waiting"

    def _note_evaluating(self, event: dict[str, Any]) -> None:
        self.phase = "evaluating"

    def _note_builds_planned(self, event: dict[str, Any]) -> None:
        self._planned["derivations"] = event["derivations"]

    def _note_fetches_planned(self, event: dict[str, Any]) -> None:
        self.phase = "downloading"

    def _note_fetch_progress(self, event: dict[str, Any]) -> None:
        self._planned |= {"done": event["done"], "expected": event["expected"]}

    def _note_build_started(self, event: dict[str, Any]) -> None:
        self.phase = "building"
        self._building.append(event["derivation"])

    def _note_build_stopped(self, event: dict[str, Any]) -> None:
        self._built += 1
        if event["derivation"] in self._building:
            self._building.remove(event["derivation"])

    def _note_grouped(self, event: dict[str, Any]) -> None:
        self.phase = "packing"
        self._layers, self._stored = event["layers"], event["known"]

    def _note_stored(self, event: dict[str, Any]) -> None:
        self._stored += 1
