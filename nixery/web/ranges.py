"""Byte ranges, as RFC 9110 section 14 has them: pure."""

import re

import attrs

from nixery.model.errors import RangeInvalid

# More digits than any size has, and fewer than Python refuses to read.
_ONE = re.compile(
    r"bytes=[ \t]*(?:([0-9]{1,4000})-([0-9]{0,4000})|-([0-9]{1,4000}))[ \t]*", re.IGNORECASE
)


@attrs.frozen
class Range:
    """Some bytes of a blob.

    :param start: of the first byte.
    :param length: bytes, at least one.
    """

    start: int
    length: int


def parse_range(header: str, size: int) -> Range | None:
    """What a ``Range`` header asks for.

    :param size: of the blob, in bytes.
    :return: nothing if the header is to be ignored: another unit, more than one range (a client
        must take the whole in their place, and overlapping ones are a known attack), nonsense.
    :raises RangeInvalid: if no byte of the blob is in the range.
    """
    match = _ONE.fullmatch(header)
    if match is None:
        return None
    first, last, suffix = match.groups()
    if suffix is not None:
        length = min(int(suffix), size)
        if length == 0:
            raise RangeInvalid(size)
        return Range(size - length, length)
    start, end = int(first), min(int(last), size - 1) if last else size - 1
    # An end before the start makes it no range by the RFC's grammar; clients are better served
    # by a refusal than by the whole.
    if start >= size or end < start:
        raise RangeInvalid(size)
    return Range(start, end - start + 1)
