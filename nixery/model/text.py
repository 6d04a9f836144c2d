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
