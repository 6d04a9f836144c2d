"""Which of many numbered texts hold a word or a part of one. A set of numbers is an integer, with a
bit for each number.

All is made of a few long arrays: they take long to make, but no time to load.
"""

from array import array
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator

import attrs

_MANY = 1000  # entries: larger sets are kept as masks


@attrs.frozen(eq=False)
class Strings:
    """Many byte strings in one.

    :param ends: the end of each.
    """

    whole: bytes
    ends: "array[int]"

    @classmethod
    def of(cls, strings: Iterable[bytes]) -> "Strings":
        """Concatenate strings."""
        parts = list(strings)
        return cls(b"".join(parts), _sums(map(len, parts)))

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, number: int) -> bytes:
        return self.whole[_start(self.ends, number) : self.ends[number]]

    def first_not_below(self, string: bytes) -> int:
        """The number of the first string that is not below another; they must be in order."""
        low, high = 0, len(self)
        while low < high:
            middle = (low + high) // 2
            low, high = (middle + 1, high) if self[middle] < string else (low, middle)
        return low


@attrs.frozen(eq=False)
class Postings:
    """An inverted index: which entries hold which words.

    :param count: the number of entries.
    :param words: in order.
    :param numbers: of the entries that hold a word, word after word; none for frequent words.
    :param ends: the end of each word's numbers.
    :param masks: of frequent words, the sets of entries.
    :param mask_ends: the number of masks up to each word.
    """

    count: int
    words: Strings
    numbers: "array[int]"
    ends: "array[int]"
    masks: bytes
    mask_ends: "array[int]"
    _short: dict[bytes, int] = attrs.field(factory=dict, init=False)

    @classmethod
    def of(cls, entries: Iterable[Iterable[str]]) -> "Postings":
        """Index the words of entries."""
        places: defaultdict[bytes, list[int]] = defaultdict(list)
        count = 0
        for held in entries:
            for word in set(held):
                places[_encode(word)].append(count)
            count += 1
        known = sorted(places)
        few = [places[word] if len(places[word]) < _MANY else [] for word in known]
        many = {word: _bits(held, count) for word, held in places.items() if len(held) >= _MANY}
        return cls(
            count,
            Strings.of(known),
            array("I", (number for some in few for number in some)),
            _sums(map(len, few)),
            b"".join(many[word] for word in known if word in many),
            _sums(int(word in many) for word in known),
        )

    def exactly(self, word: str) -> int:
        """The entries that hold a word."""
        encoded = _encode(word)
        place = self.words.first_not_below(encoded)
        there = place < len(self.words) and self.words[place] == encoded
        return self._joined(place, place + 1) if there else 0

    def beginning(self, start: str) -> int:
        """The entries that hold a word with this beginning."""
        encoded = _encode(start)
        if encoded in self._short:
            return self._short[encoded]
        # No byte of UTF-8 is 0xff.
        last = self.words.first_not_below(encoded + b"\xff")
        found = self._joined(self.words.first_not_below(encoded), last)
        if len(encoded) == 1:  # these take longest
            self._short[encoded] = found
        return found

    def _joined(self, first: int, last: int) -> int:
        numbers = self.numbers[_start(self.ends, first) : _start(self.ends, last)]
        joined = as_set(numbers, self.count)
        width = _width(self.count)
        for mask in range(_start(self.mask_ends, first), _start(self.mask_ends, last)):
            joined |= int.from_bytes(self.masks[mask * width : mask * width + width], "little")
        return joined

    def sections(self) -> Iterator[bytes]:
        """The index as byte strings, for :meth:`load`."""
        yield from (self.words.whole, self.words.ends.tobytes(), self.numbers.tobytes())
        yield from (self.ends.tobytes(), self.masks, self.mask_ends.tobytes())

    @classmethod
    def load(cls, count: int, sections: Iterator[bytes]) -> "Postings":
        """Read what :meth:`sections` gave."""
        words = Strings(next(sections), numbers_of(next(sections)))
        numbers, ends = numbers_of(next(sections)), numbers_of(next(sections))
        return cls(count, words, numbers, ends, next(sections), numbers_of(next(sections)))


def holding(texts: Strings, part: str) -> int:
    """The texts that hold a part. Each of them ends with a newline, and the part has none."""
    sought = _encode(part)
    found: list[int] = []
    place = texts.whole.find(sought)
    while place >= 0:
        number = bisect_right(texts.ends, place, found[-1] + 1 if found else 0)
        found.append(number)
        place = texts.whole.find(sought, texts.ends[number])
    return as_set(found, len(texts))


def as_set(numbers: Iterable[int], count: int) -> int:
    """Numbers below a count as an integer with these bits."""
    return int.from_bytes(_bits(numbers, count), "little")


def numbers_of(section: bytes) -> "array[int]":
    """The array of ``tobytes``."""
    numbers = array("I")
    numbers.frombytes(section)
    return numbers


def _start(ends: "array[int]", number: int) -> int:
    """The start of a part, given the ends of all."""
    return ends[number - 1] if number else 0


def _bits(numbers: Iterable[int], count: int) -> bytes:
    bits = bytearray(_width(count))
    for number in numbers:
        bits[number >> 3] |= 1 << (number & 7)
    return bytes(bits)


def _width(count: int) -> int:
    return count // 8 + 1


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _sums(lengths: Iterable[int]) -> "array[int]":
    total = 0
    sums = array("I")
    for length in lengths:
        total += length
        sums.append(total)
    return sums
