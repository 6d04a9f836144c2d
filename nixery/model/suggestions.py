"""Suggestions for names that do not exist."""

from collections.abc import Iterable, Iterator, Sequence

import attrs

MOST = 3
"""Names that are suggested at once."""
_SLIPS = 3  # at most, however long a name is
_LETTERS = 3  # for each slip, and of a name's beginning


@attrs.frozen
class Suggestion:
    """A package that a name may stand for.

    :param name: how images ask for it.
    :param program: its program that has the name; empty if it is the package that is called so.
    """

    name: str
    program: str = ""

    def __str__(self) -> str:
        return f"{self.name} (it has the program {self.program})" if self.program else self.name


def nearest_names(name: str, names: Sequence[str]) -> list[str]:
    """Those of some names that are most like one, without regard to case, likeliest first.

    A name is like it if few typing slips lead from one to the other: one for every three of its
    letters, and three at most. A slip is a letter too many, too few or wrong, or two neighbours
    in the wrong order. Names that only add something to it (``python`` → ``python3``) follow, if it
    has three letters or more.

    It takes about 0.1 s for all of nixpkgs: not for the reactor's thread.
    """
    wanted = name.lower()
    lowered: dict[str, str] = {}
    for known in sorted(names, key=lambda n: (len(n), n)):
        lowered.setdefault(known.lower(), known)
    # In the order of their lengths, which sorted() keeps.
    near = sorted(_near(wanted, lowered), key=lambda found: found[0])
    longer = [key for key in lowered if key.startswith(wanted)] if len(wanted) >= _LETTERS else []
    return [lowered[key] for key in dict.fromkeys([*(key for _, key in near), *longer])][:MOST]


def _near(wanted: str, names: Iterable[str]) -> Iterator[tuple[int, str]]:
    """The names that slips make of one, each with their number."""
    most = min(_SLIPS, len(wanted) // _LETTERS)
    without = dict.fromkeys(map(ord, wanted))
    for name in names:
        # Most names have too many other letters, which is found out in a tenth of the time.
        if abs(len(name) - len(wanted)) <= most and len(name.translate(without)) <= most:
            count = slips(wanted, name, most)
            if count <= most:
                yield count, name


def slips(typed: str, meant: str, most: int) -> int:
    """How many slips lead from one text to another, as :func:`nearest_names` counts them: their
    optimal string alignment distance.

    :param most: where there are more, any greater number may be given.
    """
    before: list[int] = []
    last = list(range(len(meant) + 1))
    for row, letter in enumerate(typed, 1):
        this = [row]
        for column, other in enumerate(meant, 1):
            count = min(last[column] + 1, this[-1] + 1, last[column - 1] + (letter != other))
            if row > 1 < column and letter == meant[column - 2] and other == typed[row - 2]:
                count = min(count, before[column - 2] + 1)
            this.append(count)
        if min(this) > most < min(last):
            return most + 1
        before, last = last, this
    return last[-1]
