"""Which tags are served, and what dates mean."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nixery.model.image import parse_image
from nixery.model.tags import TagPolicy, day_of


def test_patterns() -> None:
    """A tag is served if one of the patterns fits it as a whole."""
    policy = TagPolicy(("nixos-*", "20??-??-??", "v[12]"))
    served = ["latest", "nixos-", "nixos-24.05", "2026-06-01", "v1"]
    refused = ["xnixos-1", "nixpkgs", "2026-06-011", "v3", "v12", "", "NIXOS-1"]
    assert [tag for tag in served + refused if policy.allows(tag)] == served


@given(st.lists(st.text()))
def test_latest_is_always_served(patterns: list[str]) -> None:
    """Whatever the patterns are, there is a tag to pull."""
    policy = TagPolicy(patterns)
    assert policy.allows("latest")
    assert policy.offered([]) == ["latest"]


@given(st.lists(st.text()))
def test_what_is_offered_can_be_pulled(names: list[str]) -> None:
    """No tag is listed that the grammar of tags refuses; the list is in order and repeats none."""
    offered = TagPolicy(("*",)).offered(names)
    for tag in offered:
        parse_image("x", tag)
    assert offered == sorted(set(offered))


@given(st.dates(min_value=datetime(1980, 1, 1, tzinfo=UTC).date()))
def test_days(day: object) -> None:
    """A day is all its seconds in UTC, and the next one begins where it ends."""
    span = day_of(str(day))
    assert span is not None
    start, end = (datetime.fromtimestamp(seconds, UTC) for seconds in span)
    assert (str(start.date()), start.hour, start.minute, start.second) == (str(day), 0, 0, 0)
    assert (end - start).days == 1


@pytest.mark.parametrize(
    "tag",
    ["latest", "2026-6-1", "2026-02-30", "2026-13-01", "1979-12-31", "20260601", "x2026-06-01"],
)
def test_other_tags_are_no_days(tag: str) -> None:
    """What is no date of the calendar, or before git's time, names no day."""
    assert day_of(tag) is None
