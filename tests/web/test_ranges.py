"""Byte ranges."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nixery.model.errors import RangeInvalid
from nixery.web.ranges import Range, parse_range

SIZES = st.integers(0, 50)


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
        part = parse_range(header, size)
    except RangeInvalid:
        return
    if part is not None:
        assert 0 <= part.start < part.start + part.length <= size
