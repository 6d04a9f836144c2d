"""Search of packages by words: pure, and fast enough for a set of a hundred thousand.

A set of packages is an integer, with a bit for each package in the order in which they are shown:
unions and intersections take no time, however many packages there are.
"""

import re
import sys
from array import array
from collections.abc import Iterable, Iterator
from itertools import accumulate, pairwise

import attrs

from nixery.model.package_set import Package
from nixery.model.suggestions import Suggestion
from nixery.search.postings import Postings, Strings, holding, numbers_of

MAX_WORDS = 8
"""Words of a query that are used; the rest is ignored."""
MAX_PROGRAMS = 500
"""Programs of one package that are indexed."""

_PIECE = re.compile(r"[^\W_]+")
_BETWEEN = re.compile(r"[._-]+")
_LOOKED_AT = 50  # packages of one name
_AROUND = ".,;:!?()[]{}<>\"'`"
_INFIX = 3  # characters: shorter words match only the beginning of others
_SECTIONS = 2 * 2 + 4 * 6  # of a dump: two of each list of strings, six of each of postings


@attrs.frozen(eq=False)
class Index:
    """An index of packages by name, program and description.

    :param packages: encoded, in the order in which they are shown.
    :param names: whole names.
    :param name_words: the words in names.
    :param short_names: names in lines, to be searched for parts of them.
    """

    packages: Strings
    names: Postings
    name_words: Postings
    programs: Postings
    descriptions: Postings
    short_names: Strings

    @classmethod
    def of(cls, packages: Iterable[Package]) -> "Index":
        """Index packages. For 100,000 this takes some seconds: not for the daemon's process."""
        ordered = sorted(packages, key=_order)
        names = [_names(package) for package in ordered]
        lines = ("\t".join(_short_names(package)) + "\n" for package in ordered)
        return cls(
            Strings.of(package.encode() for package in ordered),
            Postings.of(names),
            Postings.of(_pieces(" ".join(some)) for some in names),
            Postings.of(_programs(package) for package in ordered),
            Postings.of(words(package.description) for package in ordered),
            Strings.of(line.encode("utf-8", "surrogatepass") for line in lines),
        )

    def dump(self) -> bytes:
        """The index as bytes, for :meth:`load` on machines of the same byte order."""
        sections = [*_of_strings(self.packages), *_of_strings(self.short_names)]
        for postings in (self.names, self.name_words, self.programs, self.descriptions):
            sections.extend(postings.sections())
        lengths = array("I", map(len, sections))
        return b"".join([len(lengths).to_bytes(4, sys.byteorder), lengths.tobytes(), *sections])

    @classmethod
    def load(cls, dumped: bytes) -> "Index":
        """Read what :meth:`dump` gave: in no time, however many packages it holds.

        :raises ValueError: if it was truncated, or is something else.
        """
        start = 4 * (1 + int.from_bytes(dumped[:4], sys.byteorder))
        lengths = numbers_of(dumped[4:start])
        ends = list(accumulate(lengths, initial=start))
        if len(lengths) != _SECTIONS or ends[-1] != len(dumped):
            raise ValueError("not a package index")
        sections = (dumped[begin:end] for begin, end in pairwise(ends))
        packages = Strings(next(sections), numbers_of(next(sections)))
        short_names = Strings(next(sections), numbers_of(next(sections)))
        names, pieces, programs, descriptions = (
            Postings.load(len(packages), sections) for _ in range(4)
        )
        return cls(packages, names, pieces, programs, descriptions, short_names)

    def all_packages(self) -> Iterator[Package]:
        """All packages, in order."""
        return (Package.decode(self.packages[number]) for number in range(len(self)))

    def __len__(self) -> int:
        return len(self.packages)

    def search(self, query: str, limit: int) -> list[Package]:
        """The packages that match all words of a query, best first; without a word, all.

        A word matches best as the name of a package, then as the beginning of the name, as a word
        in it, or as any part; then as a program, then as a word of the description. Among equals
        the shorter name is first. Case does not count.

        :param limit: the most packages to return.
        """
        # Packages by how well they match the words so far: the lower, the better.
        fits = [(1 << len(self)) - 1]
        for word in list(dict.fromkeys(query.lower().split()))[:MAX_WORDS]:
            fits = _both(fits, list(self._fits(word)))
        return [Package.decode(self.packages[number]) for number in _lowest(fits, limit)]

    def named(self, name: str) -> Package | None:
        """The package that has an attribute path, or that images ask for by a name.

        :param name: of an attribute with its case, or as images write it.
        """
        found = [
            Package.decode(self.packages[number])
            for number in _lowest([self.names.exactly(name.lower())], _LOOKED_AT)
        ]
        exact = (each for each in found if each.attribute == name)
        return next(exact, next((each for each in found if each.image == name), None))

    def meant(self, name: str, limit: int) -> list[Suggestion]:
        """Suggestions for a name that no package has, likeliest first.

        These are packages of the same name in a nested set, or of the name without dots and dashes
        (``python3.12`` → ``python312``), then those with a program of this name, first the ones
        whose main program it is. It takes less than a millisecond.

        :param name: as images write it: an attribute path in lower case.
        :param limit: the most suggestions to return.
        """
        last, joined = name.rpartition(".")[2], _BETWEEN.sub("", name)
        called = 0
        for each in dict.fromkeys((last, name, joined)):
            called |= self.names.exactly(each)
        running = self.programs.exactly(name) & ~called
        names = [Suggestion(p.image) for p in self._askable(called, name)]
        having = [(p, _program(p, name)) for p in self._askable(running, name)]
        having.sort(key=lambda found: found[0].program != found[1])
        return [*names, *(Suggestion(p.image, program) for p, program in having)][:limit]

    def has(self, name: str) -> bool:
        """Whether a package has a name, in less than a millisecond.

        :param name: as images write it: an attribute path in lower case.
        """
        numbers = _lowest([self.names.exactly(name)], _LOOKED_AT)
        found = (Package.decode(self.packages[number]) for number in numbers)
        return any(name in (package.image, package.attribute.lower()) for package in found)

    def _askable(self, numbers: int, other_than: str) -> Iterator[Package]:
        """Packages that images can name, other than by the given name."""
        found = (Package.decode(self.packages[n]) for n in _lowest([numbers], _LOOKED_AT))
        return (package for package in found if package.image not in ("", other_than))

    def _fits(self, word: str) -> Iterator[int]:
        """The packages that match a word: by their name, and so on, down to the worst way."""
        yield self.names.exactly(word)
        yield self.names.beginning(word)
        yield self.name_words.exactly(word)
        if len(word) >= _INFIX:
            yield holding(self.short_names, word)
        else:
            yield self.name_words.beginning(word)
        yield self.programs.exactly(word)
        yield self.programs.beginning(word)
        yield self.descriptions.exactly(word)
        yield self.descriptions.beginning(word)


def _of_strings(strings: Strings) -> list[bytes]:
    return [strings.whole, strings.ends.tobytes()]


def _both(fits: list[int], others: list[int]) -> list[int]:
    """The packages that match twice, by the sum of how well they do."""
    both = [0] * (len(fits) + len(others) - 1)
    for fit, these in enumerate(fits):
        for other, those in enumerate(others):
            both[fit + other] |= these & those
    return both


def _lowest(fits: list[int], limit: int) -> list[int]:
    """The numbers of the first packages, each where it matches best."""
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
    """The words of a text to index: as they are, and the pieces of them."""
    lowered = text.lower()
    return {word.strip(_AROUND) for word in lowered.split()} - {""} | _pieces(lowered)


def _pieces(lowered: str) -> set[str]:
    return set(_PIECE.findall(lowered))


def _names(package: Package) -> list[str]:
    """The names of a package, in lower case."""
    called = (package.attribute.lower(), package.image, package.name.lower())
    return list(dict.fromkeys((*_short_names(package), *(name for name in called if name))))


def _short_names(package: Package) -> list[str]:
    """The names of a package without the sets that it is in, and without its version."""
    last, pname = package.path[-1].lower(), package.pname.lower()
    return [last, pname] if pname and pname != last else [last]


def _programs(package: Package) -> set[str]:
    known = [package.program, *package.programs[:MAX_PROGRAMS]]
    return {program.lower() for program in known if program}


def _program(package: Package, name: str) -> str:
    """The program of a package with a name in any case, as the package spells it."""
    known = (package.program, *package.programs)
    return next((program for program in known if program.lower() == name), "")


def _order(package: Package) -> tuple[bool, bool, int, int, str]:
    """The order of packages that match equally well."""
    name = package.attribute
    return not package.image, not package.available, len(package.path), len(name), name
