"""Parser of Nix's ``--log-format internal-json``: from lines to events.

The activity and result types are those of ``src/libutil/logging.hh`` in Nix; the part of the
format that is used here is the same from 2.8 to 2.34.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

import attrs

from nixery.model.closure import store_name
from nixery.model.events import (
    Blocked,
    BuildsPlanned,
    BuildStarted,
    BuildStopped,
    Event,
    FetchesPlanned,
    FetchProgress,
    FetchStarted,
    LogLine,
    PhaseStarted,
    Planned,
    Said,
    Unblocked,
)
from nixery.model.source import hide_credentials
from nixery.model.text import plain

_PREFIX = b"@nix "
_SUBSTITUTE, _BUILD = 108, 105
_LOG_LINE, _SET_PHASE = 101, 104
_INFO = 3
_COPY_PATH, _PROGRESS, _SET_EXPECTED = 100, 105, 106
_BUILDS = re.compile(r"(?:these (\d+) derivations|this derivation) will be built:")
_SIZE = r"([0-9.]+) ([KMGTP]?i?B)"
_FETCHES = re.compile(
    rf"(?:these (\d+) paths|this path) will be fetched \({_SIZE} download, {_SIZE} unpacked\):"
)
_UNITS = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_COPY_PATHS, _ALL_BUILDS, _BUILD_WAITING = 103, 104, 111
_LOCKED = re.compile(r"/nix/store/[0-9a-z]{32}-([0-9A-Za-z+._?=-]+)")
_MOST_LOCKS = 1000
_MALFORMED = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
_STEPS = 100
_MEBIBYTE = 2**20


@attrs.frozen
class Failing:
    """A builder has failed: the next one that stops, while others are stopped because of it."""


class EventParser:
    """Turns lines of standard error into events."""

    def __init__(self) -> None:
        self._builds: dict[int, str] = {}
        self._copies = Copies()
        self._counter: int | None = None
        self._failing = False
        self._locks = Locks()

    def feed(self, line: bytes) -> Iterator[Event | Failing]:
        """The events of one line: none for progress counters and the like."""
        if not line.startswith(_PREFIX):
            yield from _said(1, line.decode("utf-8", "replace"))
            return
        try:
            yield from self._parse(json.loads(line[len(_PREFIX) :]))
        except _MALFORMED:
            yield from _said(1, line.decode("utf-8", "replace"))

    def _parse(self, message: dict[str, Any]) -> Iterator[Event | Failing]:
        match message["action"]:
            case "msg":
                yield from _message(message)
            case "start":
                yield from self._start(message)
            case "result":
                yield from self._result(message)
            case "stop" if message["id"] in self._builds:
                yield BuildStopped(self._builds.pop(message["id"]))
            case "stop":
                self._copies.stop(message["id"])
                yield from self._locks.stop(message["id"])

    def _start(self, message: dict[str, Any]) -> Iterator[Event]:
        if message["type"] == _BUILD:
            derivation = store_name(message["fields"][0])
            self._builds[message["id"]] = derivation
            yield BuildStarted(derivation)
        elif message["type"] == _SUBSTITUTE:
            path, origin = message["fields"][:2]
            yield FetchStarted(path, hide_credentials(origin))
        elif message["type"] == _COPY_PATH:
            self._copies.start(message["id"])
        elif message["type"] == _BUILD_WAITING:
            yield from self._locks.start(message["id"], str(message["text"]))
        elif message["type"] in (_ALL_BUILDS, _COPY_PATHS):
            self._locks.counts(message["id"])
            if message["type"] == _ALL_BUILDS:
                self._counter = message["id"]

    def _result(self, message: dict[str, Any]) -> Iterator[Event | Failing]:
        derivation = self._builds.get(message["id"])
        if derivation is None:
            if message["type"] in (_PROGRESS, _SET_EXPECTED):
                yield from self._counted(message["id"], message["type"], message["fields"])
        elif message["type"] == _LOG_LINE:
            yield LogLine(derivation, str(message["fields"][0]))
        elif message["type"] == _SET_PHASE:
            yield PhaseStarted(derivation, str(message["fields"][0]))

    def _counted(self, id: int, kind: int, fields: list[Any]) -> Iterator[Event | Failing]:
        if kind == _PROGRESS and id == self._counter and not self._failing:
            _done, _expected, _running, failed = fields
            if failed > 0:
                self._failing = True
                yield Failing()
        yield from self._locks.result(id, kind, fields)
        yield from self._copies.result(id, kind, fields)


def _message(message: dict[str, Any]) -> Iterator[Event]:
    level, text = int(message["level"]), plain(str(message["msg"]))
    if level == _INFO and text.strip():
        yield _planned(text.strip())
    else:
        yield from _said(level, text)


def _planned(text: str) -> Event:
    if match := _BUILDS.fullmatch(text):
        return BuildsPlanned(int(match[1] or 1))
    if match := _FETCHES.fullmatch(text):
        sizes = [round(float(match[n]) * _UNITS.get(match[n + 1], 1)) for n in (2, 4)]
        return FetchesPlanned(int(match[1] or 1), *sizes)
    return Planned(hide_credentials(text))


class Copies:
    """The progress of copying store paths from binary caches, in bytes of their NARs."""

    def __init__(self) -> None:
        self._running: dict[int, int] = {}
        self._ended = 0
        self._expected = 0
        self._told = 0

    def start(self, id: int) -> None:
        """The copying of a store path has begun."""
        self._running[id] = 0

    def stop(self, id: int) -> None:
        """An activity has ended, which may be one of these."""
        self._ended += self._running.pop(id, 0)

    def result(self, id: int, kind: int, fields: list[int]) -> Iterator[FetchProgress]:
        """A counter has changed; not each change is worth an event."""
        if kind == _SET_EXPECTED:
            if fields[0] == _COPY_PATH:
                self._expected = int(fields[1])
            return
        if id not in self._running:
            return
        self._running[id] = int(fields[0])
        done = self._ended + sum(self._running.values())
        whole = done == self._expected
        step = max(_MEBIBYTE, self._expected // _STEPS, done // _STEPS)
        if done > self._told and (whole or done - self._told >= step):
            self._told = done
            yield FetchProgress(done, max(done, self._expected))


class Locks:
    """Whether Nix is waiting for another run of it that builds the same.

    2.8 announces the build of a derivation that was asked for only at its end, but keeps counting
    how many builds and copies are running.
    """

    def __init__(self) -> None:
        self._awaited: dict[int, list[str]] = {}
        self._running: dict[int, int] = {}
        self._told = False

    def start(self, id: int, text: str) -> Iterator[Event]:
        """Nix waits for a lock, or for a build machine."""
        if text.startswith("waiting for lock") and len(self._awaited) < _MOST_LOCKS:
            self._awaited[id] = _LOCKED.findall(text)
            yield from self._tell()

    def counts(self, id: int) -> None:
        """An activity has begun that counts all builds, or all copies."""
        self._running[id] = 0

    def result(self, id: int, kind: int, fields: list[int]) -> Iterator[Event]:
        """A counter has changed."""
        if kind == _PROGRESS and id in self._running:
            self._running[id] = int(fields[2])
            yield from self._tell()

    def stop(self, id: int) -> Iterator[Event]:
        """An activity has ended, which may be one of these."""
        if self._awaited.pop(id, None) is not None or self._running.pop(id, None) is not None:
            yield from self._tell()

    def _tell(self) -> Iterator[Event]:
        blocked = bool(self._awaited) and not any(self._running.values())
        if blocked != self._told:
            self._told = blocked
            names = [name for names in self._awaited.values() for name in names]
            yield Blocked(tuple(names)) if blocked else Unblocked()


def _said(level: int, text: str) -> Iterator[Event]:
    if text.strip():
        yield Said(level, hide_credentials(text.rstrip()))
