"""What a process sees of the machine's files."""

from hypothesis import given
from hypothesis import strategies as st

from nixery.nix.view import mounts, within

NAMES = st.sampled_from(["a", "b", "ab"])
PATHS = st.lists(NAMES, min_size=1, max_size=4).map(lambda names: "/" + "/".join(names))
SOME = st.lists(PATHS, max_size=5)


def is_visible(path: str, steps: list[str]) -> bool:
    """Whether a path is seen after the mounts were made one after the other."""
    covering = [step for step in steps if within(path, [step[1:]])]
    return not covering or covering[-1][0] == "+"


@given(hidden=SOME, shown=SOME, path=PATHS)
def test_the_nearest_counts(hidden: list[str], shown: list[str], path: str) -> None:
    """A file is seen or not as the nearest folder is that was named; shown wins over hidden."""
    near = [each for each in (*hidden, *shown) if within(path, [each])]
    nearest = max(near, key=len, default=None)
    expected = nearest is None or nearest in shown
    assert is_visible(path, mounts(hidden, shown)) == expected


@given(hidden=SOME, shown=SOME)
def test_no_mount_is_idle(hidden: list[str], shown: list[str]) -> None:
    """Each mount changes what is seen at its place, and none covers an earlier one within it."""
    steps = mounts(hidden, shown)
    for number, step in enumerate(steps):
        before = steps[:number]
        assert is_visible(step[1:], before) == (step[0] == "-")
        assert not any(within(earlier[1:], [step[1:]]) for earlier in before)


def test_other_spellings() -> None:
    """A path is the same however it is written."""
    assert mounts(["/home//a/"], ["/home/a/./b/../c"]) == ["-/home/a", "+/home/a/c"]
    assert mounts([], ["/home"]) == []
