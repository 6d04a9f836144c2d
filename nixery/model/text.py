"""Texts that others had a hand in, for people to read."""

import re

# CSI and OSC sequences, and other escapes: colours and worse.
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|.)")


def plain(text: str) -> str:
    """A text without terminal escape sequences."""
    return _ESCAPES.sub("", text)


def readable(text: str) -> str:
    """A line as a terminal would show it in the end, without what a terminal would obey.

    What stands before a carriage return is overwritten by what is behind it.
    """
    if text.isprintable():
        return text
    shown = plain(text).rstrip("\r").rpartition("\r")[2]
    return "".join(
        c if c.isprintable() or c == "\t" else "\N{REPLACEMENT CHARACTER}" for c in shown
    )


def cut(text: str, most: int) -> str:
    """A text that is no longer than so many characters, and ends with a mark if it was.

    It is cut between words: half an address leads nowhere. A text that is one word has no such
    place.
    """
    if len(text) <= most:
        return text
    kept = text[: most - 1]
    if not text[most - 1].isspace() and (words := kept.rsplit(maxsplit=1))[1:]:
        kept = words[0]
    return f"{kept.rstrip()}…"
