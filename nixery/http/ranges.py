"""Byte ranges, as RFC 9110 sections 14 and 15.3.7 have them: pure.

werkzeug ignores all ranges if some overlap or are not in order, and has no multipart answers."""

import re
from collections.abc import Sequence

import attrs

from nixery.model.request_errors import RangeInvalid

MOST_RANGES = 64
"""Ranges that are served at once; clients that load an image lazily ask for dozens."""

# More digits than any size has, and fewer than Python refuses to read.
_ONE = re.compile(r"([0-9]{1,4000})-([0-9]{0,4000})|-([0-9]{1,4000})")
_UNIT = re.compile(r"bytes=", re.IGNORECASE)
_TYPE = "application/octet-stream"


@attrs.frozen
class Range:
    """Some bytes of a blob.

    :param start: of the first byte.
    :param length: bytes, at least one.
    """

    start: int
    length: int

    @property
    def end(self) -> int:
        """Of the first byte behind them."""
        return self.start + self.length

    def of(self, size: int) -> str:
        """The same as a ``Content-Range``.

        :param size: of the blob, in bytes.
        """
        return f"bytes {self.start}-{self.end - 1}/{size}"


@attrs.frozen
class Part:
    """A piece of an answer's body.

    :param head: what stands in front of the blob's bytes.
    """

    head: bytes
    range: Range


@attrs.frozen
class Selection:
    """The parts of a blob that are sent.

    :param parts: at least one.
    :param media_type: of the whole answer.
    :param content_range: of the answer, if it is of one range.
    :param tail: what stands behind the last part.
    """

    parts: Sequence[Part]
    media_type: str = _TYPE
    content_range: str | None = None
    tail: bytes = b""

    @property
    def status(self) -> int:
        """The answer's status."""
        whole = self.content_range is None and len(self.parts) == 1
        return 200 if whole else 206

    @property
    def length(self) -> int:
        """Bytes of the answer's body."""
        return sum(len(p.head) + p.range.length for p in self.parts) + len(self.tail)

    def body(self, content: bytes) -> bytes:
        """The answer's body.

        :param content: the whole blob.
        """
        pieces = (part.head + content[part.range.start : part.range.end] for part in self.parts)
        return b"".join(pieces) + self.tail


def whole(size: int) -> Selection:
    """All of a blob."""
    return Selection([Part(b"", Range(0, size))])


def select(ranges: Sequence[Range], size: int, boundary: str) -> Selection:
    """Some ranges of a blob; several are sent as ``multipart/byteranges``.

    :param ranges: at least one.
    :param size: of the blob, in bytes.
    :param boundary: between several; random, so that no blob can contain it.
    """
    if len(ranges) == 1:
        return Selection([Part(b"", ranges[0])], content_range=ranges[0].of(size))
    parts = []
    for number, each in enumerate(ranges):
        lines = ["" if number else None, f"--{boundary}", f"Content-Type: {_TYPE}"]
        lines += [f"Content-Range: {each.of(size)}", "", ""]
        head = "\r\n".join(line for line in lines if line is not None)
        parts.append(Part(head.encode("ascii"), each))
    media_type = f"multipart/byteranges; boundary={boundary}"
    return Selection(parts, media_type, tail=f"\r\n--{boundary}--\r\n".encode("ascii"))


def parse_ranges(header: str, size: int) -> list[Range]:
    """The ranges of a ``Range`` header, in its order; ranges that overlap become one.

    So no byte is sent twice: to ask for many overlapping ranges is a known attack.

    :param size: of the blob, in bytes.
    :return: none if the header is to be ignored, and the whole sent: another unit, too many
        ranges, nonsense.
    :raises RangeInvalid: if no byte of the blob is in any range.
    """
    unit = _UNIT.match(header)
    if unit is None or header.count(",") >= MOST_RANGES:
        return []
    texts = [text.strip(" \t") for text in header[unit.end() :].split(",")]
    matches = [_ONE.fullmatch(text) for text in texts if text]
    found = []
    for match in matches:
        if match is None:
            return []
        found.append(_resolve(match, size))
    if not found:
        return []
    there = [each for each in found if each is not None]
    if not there:
        raise RangeInvalid(size)
    return _joined(there)


def _resolve(match: re.Match[str], size: int) -> Range | None:
    """The bytes of a blob that are in a range, if there are any."""
    first, last, suffix = match.groups()
    if suffix is not None:
        length = min(int(suffix), size)
        return Range(size - length, length) if length else None
    start, end = int(first), min(int(last), size - 1) if last else size - 1
    # An end before the start makes it no range by the RFC's grammar; clients are better served
    # by a refusal than by the whole.
    return Range(start, end - start + 1) if start < size and end >= start else None


def _joined(ranges: list[Range]) -> list[Range]:
    """The same, in order of their first bytes where some of them overlap."""
    joined: list[Range] = []
    for each in sorted(ranges, key=lambda r: r.start):
        last = joined[-1] if joined else None
        if last is None or each.start >= last.end:
            joined.append(each)
        else:
            joined[-1] = Range(last.start, max(last.end, each.end) - last.start)
    return joined if len(joined) < len(ranges) else ranges
