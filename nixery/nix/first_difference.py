"""Where two outputs of one derivation differ first. Blocks."""

import os
import stat

from nixery.model.text import readable

_CHUNK = 1024 * 1024
_SHOWN = 60
"""Characters of a line that are shown."""
_FOLDER, _LINK = "a folder", "a link"


def first_difference(expected: str, found: str) -> str:
    """The first difference of two files or folders, in the order of their names, in a sentence.

    :return: empty if there is none that counts for Nix: it knows no owners and times.
    """
    left = [""]
    while left:  # no recursion: folders may lie in each other thousands of times
        name = left.pop()
        one, other = (os.path.join(path, name) if name else path for path in (expected, found))
        if said := _difference(one, other, readable(name) or "the output"):
            return said
        if _kind(one) == _FOLDER:
            names = {*os.listdir(one), *os.listdir(other)}
            left += [os.path.join(name, each) for each in sorted(names, reverse=True)]
    return ""


def _difference(expected: str, found: str, shown: str) -> str:
    """The difference of two paths, apart from what is in them if they are folders."""
    kinds = _kind(expected), _kind(found)
    if not all(kinds):
        return f"{shown} is {'missing now' if kinds[0] else 'new'}"
    if kinds[0] != kinds[1]:
        return f"{shown} was {kinds[0]}, and is now {kinds[1]}"
    if kinds[0] == _LINK:
        targets = os.readlink(expected), os.readlink(found)
        if targets[0] != targets[1]:
            return f"{shown} led to {_quoted(targets[0])}, and leads now to {_quoted(targets[1])}"
    elif kinds[0] != _FOLDER and (at := _unequal(expected, found)) is not None:
        lines = _line(expected, at), _line(found, at)
        return f"{shown} differs from byte {at} on: {lines[0]}, and now {lines[1]}"
    return ""


def _kind(path: str) -> str:
    """The kind of what is at a path; empty if there is nothing."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return ""
    if stat.S_ISREG(mode):
        return "a program" if mode & 0o100 else "a file"
    return _FOLDER if stat.S_ISDIR(mode) else _LINK


def _unequal(expected: str, found: str) -> int | None:
    """The number of the first byte that differs; none if all are the same."""
    with open(expected, "rb") as one, open(found, "rb") as other:
        at = 0
        while True:
            pieces = one.read(_CHUNK), other.read(_CHUNK)
            if pieces[0] != pieces[1]:
                pairs = zip(*pieces, strict=False)
                same = next((i for i, (a, b) in enumerate(pairs) if a != b), None)
                return at + (min(map(len, pieces)) if same is None else same)
            if not pieces[0]:
                return None
            at += len(pieces[0])


def _line(path: str, at: int) -> str:
    """What stands from a byte of a file on, to the end of its line."""
    with open(path, "rb") as file:
        file.seek(at)
        line = file.read(_SHOWN).partition(b"\n")[0]
    return _quoted(line.decode("ascii", "backslashreplace")) if line else "nothing"


def _quoted(text: str) -> str:
    return f"'{readable(text[:_SHOWN])}'"
