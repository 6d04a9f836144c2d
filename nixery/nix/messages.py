"""Nix's messages as people are told them, without places on this machine: pure."""

import os
import re
from itertools import islice

from nixery.model.closure import STORE
from nixery.model.events import Event, FetchStarted, Planned, Said, Traced
from nixery.model.paths import hide_paths, without_trace
from nixery.model.source import LocalFolder, Source, hide_place

CONFINED = "evaluation is confined"
_ERROR = "error:"
_ENDS = 10_000  # characters
# Newer versions put the message behind the trace; 2.8 has it in the first line.
_BEHIND_TRACE = re.compile(r"\Aerror:[ ]*\n.*?^[ ]*(error: .*)", re.DOTALL | re.MULTILINE)
# What is quoted may hold quotes, but no other refusal: or else a text with many beginnings would
# be looked through from each of them.
_QUOTED = r"(?:(?!access to )[^\n])*?"
_REFUSED_PATH = re.compile(
    rf"access to (?:absolute path|canonical path|path) '(?P<path>{_QUOTED})' "
    r"is forbidden in (?:restricted|pure)(?: eval| evaluation)? mode"
    r"(?: \(use ['\"]--impure['\"] to override\))?"
)
_REFUSED_URI = re.compile(
    rf"access to URI (?P<quote>['\"])(?P<uri>{_QUOTED})(?P=quote) is forbidden in restricted mode"
)
_MOST_PATHS = 20
"""Refused paths in one text that are shown relative to the set; Nix names one, and its callers."""


def first_words(text: str) -> str:
    """The message of an error, without its prefix, its trace and its source excerpts."""
    lines: list[str] = []
    if behind := _BEHIND_TRACE.match(text):
        text = text[behind.start(1) :]
    for line in text.removeprefix(_ERROR).splitlines():
        stripped = line.strip()
        if stripped.startswith(("…", "at ", "(use '--show-trace'")) and lines:
            break
        if stripped in ("error:", "error", "") and not lines:
            continue
        lines.append(stripped.removeprefix("error: "))
    return printable("\n".join(lines).strip())


def printable(text: str) -> str:
    """A text without terminal control characters."""
    return "".join(c for c in text if c.isprintable() or c in "\n\t")


def ends(text: str) -> str:
    """A text without the middle, if it is long: the message is at one of its ends."""
    if len(text) <= 2 * _ENDS:
        return text
    return f"{text[:_ENDS]}\n…\n{text[-_ENDS:]}"


def explain_refusals(source: Source, text: str) -> str:
    """Say the refusals of a confined evaluation in words that a set's author understands.

    :param source: what is evaluated: paths near it are shown relative to it, since Nix names
        them by their place on this machine.
    :param text: a message of Nix's.
    """
    if "is forbidden in" not in text:
        return text
    for path in {match["path"] for match in islice(_REFUSED_PATH.finditer(text), _MOST_PATHS)}:
        # In the trace too.
        text = text.replace(f"'{path}", f"'{_relative(source, path)}")
    text = _REFUSED_PATH.sub(
        lambda match: f"{CONFINED}: the package set may not read '{match['path']}'", text
    )
    return _REFUSED_URI.sub(
        lambda match: f"{CONFINED}: the package set may not fetch '{match['uri']}'", text
    )


def _relative(source: Source, path: str) -> str:
    if not isinstance(source, LocalFolder) or not path.startswith("/"):  # a set may say anything
        return path
    near = os.path.commonpath([source.path, path]) != "/"
    return os.path.relpath(path, source.path) if near else path


def without_place(source: Source, store: str | None, event: Event, mark: str) -> Event:
    """An event without the places of the package source and of the store on this machine.

    :param store: the folder that the store is in; none for the machine's own store.
    :param mark: text between two of these is data, for an image for instance, and is kept as is.
    """
    if not isinstance(event, Said):
        return event
    text = event.text if store is None else event.text.replace(f"{store}{STORE}", STORE)
    pieces = text.split(mark)
    pieces[::2] = [hide_place(source, explain_refusals(source, piece)) for piece in pieces[::2]]
    return Said(event.level, mark.join(pieces))


def disclosed(event: Event, traces: bool) -> list[Event]:
    """The events to emit for one: what anybody may see, and what goes to the daemon's log alone.

    :param traces: whether the operator lets anybody see traces, source lines and paths.
    """
    match event:
        case FetchStarted(path=path, origin=origin):  # a binary cache may be a folder
            return [FetchStarted(path, hide_paths(origin))]
        case Planned(text=text):
            return [Planned(hide_paths(text))]
        case Said(level=level, text=text) if not traces:
            short = ends(text)
            if short.startswith(_ERROR):
                told = f"{_ERROR} {hide_paths(first_words(short))}"
            else:
                told = hide_paths(without_trace(short))
            shown: list[Event] = [Said(level, told)]
            return shown if told == text else [*shown, Traced(text)]
        case _:
            return [event]
