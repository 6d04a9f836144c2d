"""Names that someone may have meant."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nixery.model.suggestions import nearest_names

NAMES = [
    *("git", "gitFull", "gitea", "htop", "hello", "python3", "python3Packages", "nodejs", "jq"),
    *("shellcheck", "ShellCheck", "bashInteractive", "coreutils"),
]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        *(("gti", "git"), ("helo", "hello"), ("hotp", "htop"), ("shelcheck", "ShellCheck")),
        *(("bashinteractiv", "bashInteractive"), ("nodjs", "nodejs")),
    ],
)
def test_slips_are_seen(typed: str, meant: str) -> None:
    """The first suggestion for a slip of the fingers is what was meant, in the set's own case."""
    assert nearest_names(typed, NAMES)[0] == meant


def test_beginnings_count() -> None:
    """A name that only lacks its end is suggested, however long the end is."""
    assert "python3" in nearest_names("python", NAMES)
    assert "bashInteractive" in nearest_names("bash", NAMES)


def test_nothing_alike() -> None:
    """What is like nothing has no suggestion."""
    assert nearest_names("zzzzzz", NAMES) == []
    assert nearest_names("git", []) == []


@given(st.text(max_size=8), st.lists(st.text(max_size=8), max_size=20), st.randoms())
def test_any_names(name: str, names: list[str], random: object) -> None:
    """Suggestions are up to three names of the set, each once whatever its case, and do not
    depend on the set's order."""
    near = nearest_names(name, names)
    assert set(near) <= set(names)
    assert len(near) == len({each.lower() for each in near}) <= 3
    assert nearest_names(name, sorted(names, key=lambda _: random.random())) == near  # type: ignore[attr-defined]
