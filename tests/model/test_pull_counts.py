"""How often images were pulled."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nixery.model.pull_counts import (
    HALF_LIFE,
    PullCount,
    added,
    counts_record,
    most_pulled,
    read_counts,
)

DAY = 86400.0
NOW = 100 * DAY


def pulls(name: str, number: int, ago: float = 0.0, tag: str = "latest") -> PullCount:
    return PullCount(name, tag, number, NOW - ago, float(number))


def test_what_was_pulled_lately() -> None:
    """A pull counts half after a week: what is pulled now comes before what was once."""
    once, now = pulls("once", 10, 2 * HALF_LIFE), pulls("now", 3)
    counts = {"sha256:1": once, "sha256:2": now}
    assert most_pulled(counts, 2, NOW) == [("now", "latest"), ("once", "latest")]
    assert once.score_at(NOW) == 2.5


def test_revisions_of_one_name() -> None:
    """The pulls of all images of a name and tag count together."""
    counts = {
        "sha256:1": pulls("a", 2, DAY),
        "sha256:2": pulls("a", 2),
        "sha256:3": pulls("b", 3),
        "sha256:4": pulls("a", 1, tag="v1"),
    }
    assert most_pulled(counts, 9, NOW) == [("a", "latest"), ("b", "latest"), ("a", "v1")]
    assert most_pulled(counts, 1, NOW) == [("a", "latest")]


def test_what_is_no_pull() -> None:
    """What was only looked at, or has no name, is none of the images that are pulled most."""
    counts = {"sha256:1": pulls("a", 0), "sha256:2": pulls("", 5)}
    assert most_pulled(counts, 9, NOW) == []


@given(st.lists(st.integers(0, 30), min_size=1, max_size=9), st.randoms())
def test_added_in_any_order(days: list[int], chance: object) -> None:
    """Counts are the same in whatever order and however often they are added up."""
    one_by_one: dict[str, PullCount] = {}
    for ago in days:
        one_by_one = added(one_by_one, {"sha256:1": pulls("a", 1, ago * DAY)}, NOW)
    total = one_by_one["sha256:1"]
    assert total.pulls == len(days)
    assert total.pulled == NOW - min(days) * DAY
    expected = sum(0.5 ** (ago * DAY / HALF_LIFE) for ago in days)
    assert total.score_at(NOW) == pytest.approx(expected)


def test_few_are_kept() -> None:
    """Images that nobody has pulled for months are forgotten, and of very many those that are
    pulled least."""
    old = {"sha256:old": pulls("old", 99, 90 * DAY)}
    many = {f"sha256:{number}": pulls("many", number) for number in range(3000)}
    kept = added(old, many, NOW)
    assert set(kept) == {f"sha256:{number}" for number in range(1000, 3000)}


def test_what_has_no_name_goes_first() -> None:
    """However often signatures are fetched, the images that they are of keep their counts."""
    images = {f"sha256:{number}": pulls("a", 1) for number in range(1500)}
    attached = {f"sha256:{number}": pulls("", 5) for number in range(1500, 3000)}
    assert set(images) <= set(added(images, attached, NOW))


def test_a_name_that_was_not_known() -> None:
    """A pull of an image whose name is not known yet does not take the name away."""
    assert pulls("a", 1, DAY).plus(pulls("", 1)).name == "a"


def test_records() -> None:
    """Counts come back from JSON as they were, and what is none is an error that is caught."""
    counts = {"sha256:1": pulls("a", 2)}
    assert read_counts(json.loads(json.dumps(counts_record(counts)))) == counts
    for wrong in ([1], {"x": [1]}, {"x": [1, 2, [], 4, 5]}, {"x": 3}):
        with pytest.raises((ValueError, TypeError)):
            read_counts({"pulls": wrong})
    with pytest.raises(KeyError):
        read_counts({})
