"""Finding packages by words: pure, and fast enough for a set of a hundred thousand.

Sets of packages are integers, a bit for each package in the order that they are shown in: so
they are joined and met in a moment however many there are.
"""

import heapq
import re
from collections.abc import Iterator, Sequence

from nixery.model.packages import Package
from nixery.model.postings import Postings, Texts

MAX_WORDS = 8
"""Words of a query that are looked for; what follows them is not."""
MAX_PROGRAMS = 500
"""Programs of one package that it is found by."""

_PIECE = re.compile(r"[^\W_]+")
_AROUND = ".,;:!?()[]{}<>\"'`"
_INFIX = 3  # characters: what is shorter is looked for at the beginning of words alone
_CHUNK = 2000  # that are sorted at once: no other thread runs meanwhile


class Index:
    """Packages, to be found by name, program and description."""

    def __init__(self, packages: Sequence[Package]) -> None:
        """It takes some seconds for 100,000 packages: not for the reactor's thread."""
        ordered = _sorted(packages)
        names = [_names(package) for package in ordered]
        # As bytes they take less room, and the garbage collector no time.
        self._packages = [package.encode() for package in ordered]
        self._names = Postings(names)
        self._name_words = Postings(_pieces(" ".join(some)) for some in names)
        self._programs = Postings(_programs(package) for package in ordered)
        self._descriptions = Postings(words(package.description) for package in ordered)
        self._short_names = Texts("\t".join(_short_names(package)) for package in ordered)

    def __len__(self) -> int:
        return len(self._packages)

    def search(self, query: str, limit: int) -> list[Package]:
        """The packages that all words of a query fit, best first; without a word, all.

        Best is what is named so, then what its name begins with, or holds as a word, or at all;
        then come its programs, then the words of its description. Among equals the shorter name
        is first. Case does not count.

        :param limit: the most that are given.
        """
        # Packages by how well they fit all words until now: the lower, the better.
        fits = [(1 << len(self)) - 1]
        for word in list(dict.fromkeys(query.lower().split()))[:MAX_WORDS]:
            fits = _both(fits, list(self._fits(word)))
        return [Package.decode(self._packages[number]) for number in _lowest(fits, limit)]

    def _fits(self, word: str) -> Iterator[int]:
        """The packages that a word fits: as their name, and so on, until the worst way to fit."""
        yield self._names.exactly(word)
        yield self._names.beginning(word)
        yield self._name_words.exactly(word)
        in_name = self._short_names.holding if len(word) >= _INFIX else self._name_words.beginning
        yield in_name(word)
        yield self._programs.exactly(word)
        yield self._programs.beginning(word)
        yield self._descriptions.exactly(word)
        yield self._descriptions.beginning(word)


def _both(fits: list[int], others: list[int]) -> list[int]:
    """What fits in two ways, by the sum of how well it does."""
    both = [0] * (len(fits) + len(others) - 1)
    for fit, these in enumerate(fits):
        for other, those in enumerate(others):
            both[fit + other] |= these & those
    return both


def _lowest(fits: list[int], limit: int) -> list[int]:
    """The numbers of the first packages, each where it fits best."""
    numbers: list[int] = []
    seen = 0
    for these in fits:
        left = these & ~seen
        seen |= these
        while left and len(numbers) < limit:
            lowest = left & -left
            numbers.append(lowest.bit_length() - 1)
            left ^= lowest
    return numbers


def words(text: str) -> set[str]:
    """The words of a text that it is found by: as they stand there, and the pieces of these."""
    lowered = text.lower()
    return {word.strip(_AROUND) for word in lowered.split()} - {""} | _pieces(lowered)


def _pieces(lowered: str) -> set[str]:
    return set(_PIECE.findall(lowered))


def _names(package: Package) -> list[str]:
    """What a package is called, in lower case."""
    called = (package.attribute.lower(), package.image, package.name.lower())
    return list(dict.fromkeys((*_short_names(package), *(name for name in called if name))))


def _short_names(package: Package) -> list[str]:
    """What a package is called without the sets that it is in, and without its version."""
    last, pname = package.path[-1].lower(), package.pname.lower()
    return [last, pname] if pname and pname != last else [last]


def _programs(package: Package) -> set[str]:
    known = [package.program, *package.programs[:MAX_PROGRAMS]]
    return {program.lower() for program in known if program}


def _sorted(packages: Sequence[Package]) -> list[Package]:
    starts = range(0, len(packages), _CHUNK)
    chunks = [sorted(packages[start : start + _CHUNK], key=_order) for start in starts]
    return list(heapq.merge(*chunks, key=_order))


def _order(package: Package) -> tuple[bool, bool, int, int, str]:
    """Which of two packages that fit equally well comes first."""
    name = package.attribute
    return not package.image, not package.available, len(package.path), len(name), name
