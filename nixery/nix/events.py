"""Nix's ``--log-format internal-json``, line by line, as events.

The activity and result types are those of ``src/libutil/logging.hh`` in Nix; the format is the
same from 2.8 to 2.34 as far as it is read here.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

from nixery.model.closure import store_name
from nixery.model.events import (
    BuildStarted,
    BuildStopped,
    Event,
    FetchStarted,
    LogLine,
    PhaseStarted,
    Planned,
    Said,
)
from nixery.model.source import hide_credentials

_PREFIX = b"@nix "
_SUBSTITUTE, _BUILD = 108, 105
_LOG_LINE, _SET_PHASE = 101, 104
_INFO = 3
# CSI and OSC sequences, and other escapes: colours and worse.
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|.)")


def plain(text: str) -> str:
    """A text without terminal escape sequences."""
    return _ESCAPES.sub("", text)


class EventParser:
    """Turns lines of standard error into events; it knows which builds are running."""

    def __init__(self) -> None:
        self._builds: dict[int, str] = {}

    def feed(self, line: bytes) -> Iterator[Event]:
        """The events of one line: none for what nobody needs, such as progress counters."""
        if not line.startswith(_PREFIX):
            yield from _said(1, line.decode("utf-8", "replace"))
            return
        try:
            yield from self._parse(json.loads(line[len(_PREFIX) :]))
        except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
            yield from _said(1, line.decode("utf-8", "replace"))

    def _parse(self, message: dict[str, Any]) -> Iterator[Event]:
        match message["action"]:
            case "msg":
                yield from _message(message)
            case "start":
                yield from self._start(message)
            case "result":
                yield from self._result(message)
            case "stop" if message["id"] in self._builds:
                yield BuildStopped(self._builds.pop(message["id"]))

    def _start(self, message: dict[str, Any]) -> Iterator[Event]:
        if message["type"] == _BUILD:
            derivation = store_name(message["fields"][0])
            self._builds[message["id"]] = derivation
            yield BuildStarted(derivation)
        elif message["type"] == _SUBSTITUTE:
            path, origin = message["fields"][:2]
            yield FetchStarted(path, hide_credentials(origin))

    def _result(self, message: dict[str, Any]) -> Iterator[Event]:
        derivation = self._builds.get(message["id"])
        if derivation is None:
            return
        if message["type"] == _LOG_LINE:
            yield LogLine(derivation, str(message["fields"][0]))
        elif message["type"] == _SET_PHASE:
            yield PhaseStarted(derivation, str(message["fields"][0]))


def _message(message: dict[str, Any]) -> Iterator[Event]:
    level, text = int(message["level"]), plain(str(message["msg"]))
    if level == _INFO and text.strip():
        yield Planned(hide_credentials(text.strip()))
    else:
        yield from _said(level, text)


def _said(level: int, text: str) -> Iterator[Event]:
    if text.strip():
        yield Said(level, hide_credentials(text.rstrip()))
