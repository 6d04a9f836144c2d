"""Names that someone may have meant."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nixery.model.suggestions import nearest_names, slips

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


@pytest.mark.parametrize("typed", ["wget", "rg", "ps", "six", "jq"])
def test_nothing_far_fetched(typed: str) -> None:
    """What shares some letters with a name, or begins with two of them, is not meant by it."""
    names = ["getent", "git", "tig", "rgbds", "pspg", "xz", "jqp", "gawk", "tree"]
    assert nearest_names(typed, names) == []


LETTERS = st.text(alphabet="abcd", max_size=10)


def reference(typed: str, meant: str) -> int:
    """The slips between two texts, by the definition."""
    if not typed or not meant:
        return len(typed) + len(meant)
    ways = [
        reference(typed[1:], meant) + 1,
        reference(typed, meant[1:]) + 1,
        reference(typed[1:], meant[1:]) + (typed[0] != meant[0]),
    ]
    if typed[:2] == meant[:2][::-1] and len(typed) > 1 < len(meant):
        ways.append(reference(typed[2:], meant[2:]) + 1)
    return min(ways)


@settings(max_examples=50)
@given(st.text(alphabet="abc", max_size=5), st.text(alphabet="abc", max_size=5), st.integers(0, 5))
def test_slips(typed: str, meant: str, most: int) -> None:
    """Slips are counted as few as they can be, or found to be more than are of interest."""
    count = reference(typed, meant)
    assert slips(typed, meant, most) == count or (count > most < slips(typed, meant, most))


@given(LETTERS, st.lists(LETTERS, max_size=12))
def test_the_rule(name: str, names: list[str]) -> None:
    """Every suggestion has one slip for every three letters at most, and never more than three,
    or only adds to a name of three letters or more; where there is no suggestion, nothing has."""
    most = min(3, len(name) // 3)

    def is_like(other: str) -> bool:
        return slips(name, other, 20) <= most or (len(name) >= 3 and other.startswith(name))

    near = nearest_names(name, names)
    assert all(map(is_like, near))
    assert len(near) == min(3, len({other for other in names if is_like(other)}))


@given(st.text(max_size=8), st.lists(st.text(max_size=8), max_size=20), st.randoms())
def test_any_names(name: str, names: list[str], random: object) -> None:
    """Suggestions are up to three names of the set, each once whatever its case, and do not
    depend on the set's order."""
    near = nearest_names(name, names)
    assert set(near) <= set(names)
    assert len(near) == len({each.lower() for each in near}) <= 3
    assert nearest_names(name, sorted(names, key=lambda _: random.random())) == near  # type: ignore[attr-defined]
