"""Which of many numbered texts hold a word or a part. Sets of numbers are integers, bit by bit."""

import heapq
from array import array
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Sequence
from string import ascii_lowercase, digits

_MANY = 256  # entries from which on a set of them is kept as it is asked for
_INITIALS = ascii_lowercase + digits  # by which most entries are asked for: kept too
_CHUNK = 5000  # words that are sorted at once: no other thread runs meanwhile


class Postings:
    """Which entries hold which words."""

    def __init__(self, entries: Iterable[Iterable[str]]) -> None:
        places: defaultdict[str, array[int]] = defaultdict(lambda: array("I"))
        self._count = 0
        for number, held in enumerate(entries):
            for word in set(held):
                places[word].append(number)
            self._count = number + 1
        self._words = _sorted(list(places))
        self._places = [self._keep(places[word]) for word in self._words]
        self._initials = {initial: self._beginning(initial) for initial in _INITIALS}

    def exactly(self, word: str) -> int:
        """The entries that hold a word."""
        place = bisect_left(self._words, word)
        there = place < len(self._words) and self._words[place] == word
        return self._joined(self._places[place : place + 1]) if there else 0

    def beginning(self, start: str) -> int:
        """The entries that hold a word which begins so."""
        known = self._initials.get(start)
        return self._beginning(start) if known is None else known

    def _beginning(self, start: str) -> int:
        first = bisect_left(self._words, start)
        last = bisect_left(self._words, _after(start), first) if _after(start) else len(self._words)
        return self._joined(self._places[first:last])

    def _keep(self, numbers: "array[int]") -> "array[int] | int":
        return as_set(numbers, self._count) if len(numbers) >= _MANY else numbers

    def _joined(self, places: "Sequence[array[int] | int]") -> int:
        joined = 0
        few: set[int] = set()
        for numbers in places:
            if isinstance(numbers, int):
                joined |= numbers
            else:
                few.update(numbers)
        return joined | as_set(few, self._count)


class Texts:
    """Texts, none of which holds a line end, one after another to be looked through at once."""

    def __init__(self, texts: Iterable[str]) -> None:
        lines = list(texts)
        self._count = len(lines)
        self._whole = "\n".join(lines)
        self._ends = array("Q")
        end = 0
        for line in lines:
            end += len(line) + 1
            self._ends.append(end)

    def holding(self, part: str) -> int:
        """The texts that hold a part, which holds no line end either."""
        numbers = []
        number = 0
        place = self._whole.find(part)
        while place >= 0:
            number = bisect_left(self._ends, place + 1, number)
            numbers.append(number)
            place = self._whole.find(part, self._ends[number])
        return as_set(numbers, self._count)


def as_set(numbers: Iterable[int], count: int) -> int:
    """Numbers below a count as an integer with these bits."""
    bits = bytearray(count // 8 + 1)
    for number in numbers:
        bits[number >> 3] |= 1 << (number & 7)
    return int.from_bytes(bits, "little")


def _after(start: str) -> str:
    """What comes after all words that begin so; nothing if that is all there is."""
    kept = start.rstrip("\U0010ffff")
    return kept[:-1] + chr(ord(kept[-1]) + 1) if kept else ""


def _sorted(words: list[str]) -> list[str]:
    starts = range(0, len(words), _CHUNK)
    return list(heapq.merge(*(sorted(words[start : start + _CHUNK]) for start in starts)))
