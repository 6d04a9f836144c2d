"""Ended builds: listed as they are asked for, and dropped when they are too many."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import succeed

from nixery.history import archive as module
from nixery.history.archive import Archive
from nixery.history.folder import KeptBuild
from nixery.history.summary import BuildHead
from nixery.model.limits import HistoryLimits
from tests.history.histories import reactor

NOW = 10_000.0


def make_archive(limits: HistoryLimits | None = None) -> Archive:
    """An archive at a fixed time, of which nothing is on disk."""
    limits = limits or HistoryLimits()
    return Archive(reactor, "/no/such", limits, lambda: NOW, lambda: succeed(None), lambda: ())


def build(began: float, ended: float, size: int = 1, name: str = "git", **facts: Any) -> KeptBuild:
    """A build at a time, which its ID says too."""
    id = f"{int(began * 1000):012x}0000"
    facts = {"state": "done", **facts}
    return KeptBuild(BuildHead(id, "0" * 64, name, "latest", began, ended=ended, **facts), size)


BUILDS = st.lists(
    st.tuples(st.integers(1, 9_999), st.integers(0, 3000), st.integers(1, 50)),
    unique_by=lambda each: each[0],
    max_size=30,
)


@given(BUILDS, st.integers(0, 9_999), st.integers(0, 400), st.integers(1, 20))
def test_what_is_dropped(
    builds: list[tuple[int, int, int]], seconds: int, size: int, most: int
) -> None:
    """The oldest are dropped that ended too long ago, are too large together, or too many, and no
    others; what is kept is counted as it is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_MOST_KEPT", most)
        archive = make_archive(HistoryLimits(seconds, size))
        kept = {each.head.id: each for each in (build(b, b + d, s) for b, d, s in builds)}
        for each in kept.values():
            archive.add(each)
        expected = []
        for id in sorted(kept):
            left = [kept[other] for other in kept if other not in expected]
            is_old = (kept[id].head.ended or 0) < NOW - seconds
            if is_old or sum(each.size for each in left) > size or len(left) > most:
                expected.append(id)
        assert archive.drop_excess() == expected
        assert list(archive.ids()) == sorted(kept.keys() - set(expected), reverse=True)
        assert archive.drop_excess() == []


def test_a_tidy_archive_is_not_walked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking for what is to be dropped costs no more than what is dropped."""
    archive = make_archive(HistoryLimits(seconds=5000))
    for number in range(1000):
        archive.add(build(NOW - 1000 + number / 2, NOW))

    class Counted(list[str]):
        looked = 0

        def __iter__(self) -> Iterator[str]:
            for id in super().__iter__():
                self.looked += 1
                yield id

    archive._ids = ids = Counted(archive._ids)
    assert archive.drop_excess() == []
    assert ids.looked == 1
    archive.add(build(1, 2))
    assert len(archive.drop_excess()) == 1
    assert ids.looked == 3


def test_pages() -> None:
    """A page begins behind any ID, known or not, and goes on whatever comes and goes meanwhile."""
    archive = make_archive(HistoryLimits(seconds=NOW - 95))
    kept = [build(number, number) for number in range(1, 200)]
    for each in kept:
        archive.add(each)
    ids = [each.head.id for each in reversed(kept)]
    assert list(archive.ids()) == ids
    assert list(archive.ids(before=ids[50])) == ids[51:]
    assert list(archive.ids(before="0" * 16)) == []
    assert list(archive.ids(before="f" * 16)) == ids
    walk = archive.ids()
    first = list(islice(walk, 100))
    archive.add(build(NOW, NOW))
    assert archive.drop_excess() == ids[:104:-1]
    assert [*first, *walk] == ids[:105]


def test_the_latest_of_an_image() -> None:
    """The last build of an image that succeeded is found by its name and tag, until it is gone."""
    archive = make_archive(HistoryLimits(seconds=NOW - 25))
    builds = [build(20, 20), build(10, 30), build(40, 40, state="failed"), build(5, 50, name="jq")]
    for each in builds:
        archive.add(each)
    assert archive.latest("git", "latest") == builds[0].head
    assert archive.latest("jq", "latest") == builds[3].head
    assert archive.latest("git", "v1") is None
    assert archive.drop_excess() == [builds[0].head.id]
    assert archive.latest("git", "latest") == builds[1].head


@given(st.lists(st.tuples(st.integers(1, 99), st.sampled_from("abc"), st.booleans())))
def test_states_and_images(builds: list[tuple[int, str, bool]]) -> None:
    """Whatever comes and goes, in whichever order, the builds in each state are known, and the
    last good one of each image."""
    archive, there = make_archive(), dict[str, KeptBuild]()
    for began, name, good in builds:
        one = build(began, began, name=name, state="done" if good else "failed")
        if one.head.id in there:
            archive._drop(one.head.id)
            del there[one.head.id]
        else:
            archive.add(one)
            there[one.head.id] = one
        in_state: dict[str, list[str]] = {"done": [], "failed": []}
        newest: dict[str, str] = {}
        for id in sorted(there):
            in_state[there[id].head.state].append(id)
            if there[id].head.state == "done":
                newest[there[id].head.name] = id
        for state, ids in in_state.items():
            assert list(archive.ids(state=state)) == ids[::-1]
        for each in "abc":
            latest = archive.latest(each, "latest")
            assert (latest and latest.id) == newest.get(each)
