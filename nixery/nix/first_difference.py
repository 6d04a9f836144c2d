"""Where two outputs of one derivation differ first. Blocks."""

import os
import stat
from collections.abc import Iterator

from nixery.model.text import readable

_CHUNK = 1024 * 1024
_SHOWN = 60
"""Characters of a line that are shown."""


def first_difference(expected: str, found: str) -> str:
    """The first difference of two files or folders, in the order of their names, in a sentence.

    :return: empty if there is none that counts for Nix: it knows no owners and times.
    """
    return next(_differences(expected, found, ""), "")


def _differences(expected: str, found: str, name: str) -> Iterator[str]:
    one, other = os.lstat(expected), os.lstat(found)
    shown = readable(name) or "the output"
    if (kinds := (_kind(one.st_mode), _kind(other.st_mode)))[0] != kinds[1]:
        yield f"{shown} was {kinds[0]}, and is now {kinds[1]}"
    elif stat.S_ISDIR(one.st_mode):
        names = set(os.listdir(expected)), set(os.listdir(found))
        for each in sorted(names[0] | names[1]):
            inner = os.path.join(name, each)
            if each not in names[1]:
                yield f"{readable(inner)} is missing now"
            elif each not in names[0]:
                yield f"{readable(inner)} is new"
            else:
                paths = os.path.join(expected, each), os.path.join(found, each)
                yield from _differences(*paths, inner)
    elif stat.S_ISLNK(one.st_mode):
        targets = os.readlink(expected), os.readlink(found)
        if targets[0] != targets[1]:
            yield f"{shown} led to {_quoted(targets[0])}, and leads now to {_quoted(targets[1])}"
    elif (at := _unequal(expected, found)) is not None:
        lines = _line(expected, at), _line(found, at)
        yield f"{shown} differs from byte {at} on: {lines[0]}, and now {lines[1]}"


def _kind(mode: int) -> str:
    if stat.S_ISREG(mode):
        return "a program" if mode & 0o100 else "a file"
    return "a folder" if stat.S_ISDIR(mode) else "a link"


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
