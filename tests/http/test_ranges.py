"""Byte ranges."""

import email

import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.http import parse_range_header

from nixery.http.ranges import MOST_RANGES, Range, parse_ranges, select, whole
from nixery.model.request_errors import RangeInvalid
from tests.web.multipart import read_parts

SIZES = st.integers(0, 50)
SPECS = st.one_of(
    st.builds("{}-{}".format, st.integers(0, 60), st.integers(0, 60)),
    st.builds("{}-".format, st.integers(0, 60)),
    st.builds("-{}".format, st.integers(0, 60)),
)
SPACES = st.sampled_from(["", " ", "\t", " \t "])


def parse_range(header: str, size: int) -> Range | None:
    """The only range of a header, or none if it is ignored."""
    ranges = parse_ranges(header, size)
    assert len(ranges) <= 1
    return ranges[0] if ranges else None


@given(SIZES, st.integers(0, 60), st.integers(0, 60))
def test_from_to(size: int, first: int, last: int) -> None:
    """``bytes=A-B`` are the bytes A to B of those that there are, or a refusal."""
    content = bytes(range(size))
    expected = content[first : last + 1]
    if not expected:
        with pytest.raises(RangeInvalid):
            parse_range(f"bytes={first}-{last}", size)
        return
    part = parse_range(f"bytes={first}-{last}", size)
    assert part is not None
    assert content[part.start : part.start + part.length] == expected


@given(SIZES, st.integers(0, 60))
def test_from(size: int, first: int) -> None:
    """``bytes=A-`` is all from A on."""
    if first >= size:
        with pytest.raises(RangeInvalid):
            parse_range(f"bytes={first}-", size)
        return
    part = parse_range(f"bytes={first}-", size)
    assert part is not None
    assert (part.start, part.start + part.length) == (first, size)


@given(SIZES, st.integers(0, 60))
def test_suffix(size: int, length: int) -> None:
    """``bytes=-N`` are the last N bytes, or all if there are fewer."""
    if min(size, length) == 0:
        with pytest.raises(RangeInvalid):
            parse_range(f"bytes=-{length}", size)
        return
    part = parse_range(f"bytes=-{length}", size)
    assert part is not None
    assert (part.start + part.length, part.length) == (size, min(size, length))


def test_more_digits_than_any_size() -> None:
    """A number is a number however long it is: an end is cut, a start is beyond."""
    assert parse_range("bytes=1-" + "9" * 4000, 10) == Range(1, 9)
    with pytest.raises(RangeInvalid):
        parse_range("bytes=" + "9" * 4000 + "-", 10)


@given(st.text(max_size=30), st.integers(0, 1000))
def test_any_text(header: str, size: int) -> None:
    """Whatever the header says, a part lies within the blob and is not empty."""
    try:
        ranges = parse_ranges(header, size)
    except RangeInvalid:
        return
    for part in ranges:
        assert 0 <= part.start < part.start + part.length <= size


def bytes_of(spec: str, size: int) -> set[int]:
    """Which bytes a range has of a blob, in the plainest way."""
    first, _, last = spec.partition("-")
    if not first:
        return set(range(size)[-int(last) :]) if int(last) else set()
    return set(range(size)[int(first) : int(last) + 1 if last else size])


@given(SIZES, st.lists(SPECS, min_size=1, max_size=MOST_RANGES), SPACES)
def test_several(size: int, specs: list[str], space: str) -> None:
    """Several ranges have the bytes that any of them has, each once; none is refused."""
    expected = set().union(*(bytes_of(spec, size) for spec in specs))
    header = f"bytes={f'{space},{space}'.join(specs)}"
    if not expected:
        with pytest.raises(RangeInvalid):
            parse_ranges(header, size)
        return
    ranges = parse_ranges(header, size)
    sent = [number for part in ranges for number in range(part.start, part.end)]
    assert sorted(sent) == sorted(expected)
    wanted = [(min(found), len(found)) for spec in specs if (found := bytes_of(spec, size))]
    if sum(length for _, length in wanted) == len(expected):
        assert [(part.start, part.length) for part in ranges] == wanted


@given(SIZES, st.lists(SPECS, min_size=1, max_size=5))
def test_like_werkzeug(size: int, specs: list[str]) -> None:
    """What werkzeug finds in a header, and can be sent, is what is sent."""
    theirs = parse_range_header(f"bytes={','.join(specs)}")
    if theirs is None:
        return  # it takes only ranges in ascending order
    ours = [range(size)[start:end] for start, end in theirs.ranges]
    expected = sorted({number for each in ours for number in each})
    try:
        ranges = parse_ranges(f"bytes={','.join(specs)}", size)
    except RangeInvalid:
        assert expected == []
        return
    assert sorted(n for part in ranges for n in range(part.start, part.end)) == expected


IGNORED = [
    ",".join(["0-0"] * (MOST_RANGES + 1)),
    *("0-1,x", "0-1,5", "0-1;3-4", "0-1,--1", "0-1,1-2-3", ",", " , ,", "0-1, bytes=3-4"),
]


@pytest.mark.parametrize("specs", IGNORED)
def test_several_that_are_ignored(specs: str) -> None:
    """Too many ranges, or one that is none among them, and the whole is sent."""
    assert parse_ranges(f"bytes={specs}", 10) == []


def test_as_many_as_allowed() -> None:
    """So many ranges are served as are allowed; empty ones between them are none."""
    specs = ",".join(f"{2 * number}-{2 * number}" for number in range(MOST_RANGES))
    assert len(parse_ranges(f"bytes={specs}", 2 * MOST_RANGES)) == MOST_RANGES
    assert parse_ranges("bytes=,0-1,, 3-4,", 10) == [Range(0, 2), Range(3, 2)]


@given(st.binary(min_size=1, max_size=50), st.data())
def test_multipart_is_read_back(content: bytes, data: st.DataObject) -> None:
    """What is sent of several ranges is read back as these ranges."""
    size = len(content)
    starts = st.integers(0, size - 1)
    spans = st.tuples(starts, st.integers(1, size)).map(lambda s: (s[0], min(s[1], size - s[0])))
    ranges = [Range(*each) for each in data.draw(st.lists(spans, min_size=2, max_size=5))]
    wanted = select(ranges, size, "b" * 32)
    body = wanted.body(content)
    assert (wanted.status, wanted.length, wanted.content_range) == (206, len(body), None)
    expected = [(r.start, r.end, size, content[r.start : r.end]) for r in ranges]
    assert read_parts(wanted.media_type, body) == expected


@given(st.text("abc", min_size=1, max_size=50), st.lists(st.integers(0, 40), min_size=2))
def test_multipart_as_mail(text: str, starts: list[int]) -> None:
    """Python's parser of mail reads several ranges of a text back."""
    ranges = [Range(start % len(text), 1) for start in starts]
    wanted = select(ranges, len(text), "b" * 32)
    head = f"Content-Type: {wanted.media_type}\r\n\r\n".encode()
    message = email.message_from_bytes(head + wanted.body(text.encode()))
    assert not message.defects
    parts = message.get_payload()
    assert isinstance(parts, list)
    assert [part.get_payload() for part in parts] == [text[each.start] for each in ranges]  # type: ignore[union-attr]


@given(st.binary(min_size=1, max_size=50), st.data())
def test_one_range(content: bytes, data: st.DataObject) -> None:
    """One range is sent as it is, and says where it is from."""
    start = data.draw(st.integers(0, len(content) - 1))
    length = data.draw(st.integers(1, len(content) - start))
    wanted = select([Range(start, length)], len(content), "b")
    assert (wanted.status, wanted.media_type) == (206, "application/octet-stream")
    assert wanted.body(content) == content[start : start + length]
    assert wanted.content_range == f"bytes {start}-{start + length - 1}/{len(content)}"


def test_whole() -> None:
    """A whole blob is no part of itself; an empty one has no bytes."""
    for content in (b"", b"content"):
        wanted = whole(len(content))
        assert (wanted.status, wanted.content_range) == (200, None)
        assert (wanted.length, wanted.body(content)) == (len(content), content)
