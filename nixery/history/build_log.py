"""Builds in the daemon's log."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from nixery.model import events
from nixery.model.closure import store_name
from nixery.model.events import Event, Traced
from nixery.model.text import cut

_LONGEST = 1000  # characters of a line; Nix's traces have many more
_MOST = 200
"""Lines of one kind: a package set can make Nix print without end."""


class BuildLog:
    """Writes the steps of one build to the daemon's log.

    Lines that packages print, and Nix's minor messages, are left out: there may be millions, and
    they are in the build's history.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime, image: str, build: str, request: str) -> None:
        """
        :param image: the image's name and tag.
        :param build: the build's ID, which is also in the answers to all waiting clients.
        :param request: the ID in the log of the request that the build is made for.
        """
        self._clock = clock
        self._image = image
        self._build = build
        self._request = request
        self._began = clock.seconds()
        self._told: Counter[type[Event]] = Counter()
        self._tell(f"asked for, not known yet: build {build}")

    def emit(self, event: Event) -> None:
        """Take an event."""
        if isinstance(event, Traced):
            lines = [line for line in event.text.splitlines() if line.strip()]
            for line in lines[: _MOST + 1]:
                self._count(Traced, f"Nix in full: {line}")
        elif (words := describe(event)) is not None:
            self._count(type(event), words)

    def _count(self, kind: type[Event], words: str) -> None:
        """Log it, unless there were too many of its kind."""
        self._told[kind] += 1
        if self._told[kind] <= _MOST:
            self._tell(words)
        elif self._told[kind] == _MOST + 1:
            where = "left out" if kind is Traced else "only in the build's history"
            self._tell(f"more of the same is {where}")

    def done(self, digest: str) -> None:
        """Log that the build succeeded."""
        self._tell(f"done, as {digest}", outcome="done")

    def failed(self, reason: str, outcome: str) -> None:
        """Log that the build failed.

        :param outcome: the kind of failure, in a word.
        """
        self._tell(f"failed: {reason}", outcome=outcome)

    def _tell(self, words: str, **facts: str) -> None:
        text = "{image} +{seconds:.3f} s: {words}"
        self._log.info(
            f"{{request}} {text}" if self._request else text,
            image=self._image,
            build=self._build,
            request=self._request,
            seconds=self._clock.seconds() - self._began,
            words=_one_line(words),
            **facts,
        )


def describe(event: Event) -> str | None:
    """An event in a line for operators; None for kinds that are too frequent."""
    if isinstance(event, events.Said) and event.level > 1:
        return None
    words = _WORDS.get(type(event))
    return None if words is None else words(event)


_WORDS: dict[type[Event], Callable[[Any], str]] = {
    events.Queued: lambda e: f"waiting for its turn: {e.running} builds run, {e.waiting} wait",
    events.Resolved: lambda e: f"from {e.source} at {e.revision}",
    events.Found: lambda e: f"{e.package} is {e.attribute}, {e.name}",
    events.BuildsPlanned: lambda e: f"derivations to build: {e.derivations}",
    events.FetchesPlanned: lambda e: f"store paths to fetch: {e.paths}, {_megabytes(e.download)}",
    events.Blocked: lambda e: f"waiting for what another build makes: {', '.join(e.outputs)}",
    events.BuildStarted: lambda e: f"building {e.derivation}",
    events.Realised: lambda e: f"built: {e.paths} store paths of {_megabytes(e.size)}",
    events.Collided: lambda e: f"/{e.name} is from {e.kept}, not from {e.lost}",
    events.Grouped: lambda e: f"grouped into {e.layers} layers, {e.known} of them known",
    events.Packed: lambda e: (
        f"packed {_contents(e.paths)}: {_megabytes(e.uncompressed)} in {_megabytes(e.size)}, "
        f"{e.digest}"
    ),
    events.Said: lambda e: f"Nix: {e.text}",
}


def _contents(paths: Sequence[str]) -> str:
    if not paths:
        return "the root file system"
    return store_name(paths[0]) if len(paths) == 1 else f"{len(paths)} store paths"


def _one_line(text: str) -> str:
    """Make text that a package set may have chosen safe for a log."""
    plain = "".join(c if c.isprintable() else " " for c in cut(text, _LONGEST))
    return " ".join(plain.split())


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
