"""Two images beside each other."""

from collections.abc import Sequence
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nixery.model.comparison import Change, Difference, Versions, changes, to_pull
from nixery.model.contents import LayerFacts, PathFacts

MIRRORED = {
    Difference.ADDED: Difference.REMOVED,
    Difference.REMOVED: Difference.ADDED,
    Difference.UPGRADED: Difference.DOWNGRADED,
    Difference.DOWNGRADED: Difference.UPGRADED,
    Difference.REBUILT: Difference.REBUILT,
}
VERSIONS = ["1.0pre", "1.0", "1.0a", "1.0.1", "1.2", "1.10", "2"]
"""As Nix's ``compareVersions`` orders them."""


def store_path(name: str, letter: str = "a") -> str:
    return f"/nix/store/{letter * 32}-{name}"


def image(*paths: PathFacts) -> Sequence[PathFacts]:
    return paths


def facts(name: str, letter: str = "a", size: int = 1) -> PathFacts:
    return PathFacts(store_path(name, letter), size)


def sized(name: str, letter: str) -> PathFacts:
    """A store path, which is of one size wherever it is."""
    return facts(name, letter, crc32(store_path(name, letter).encode()))


some_facts = st.builds(
    sized,
    st.builds(
        "{}{}{}".format,
        st.sampled_from(["git", "python3", "a-b"]),
        st.sampled_from(["", *(f"-{version}" for version in VERSIONS)]),
        st.sampled_from(["", "-doc", "-bin"]),
    ),
    st.sampled_from("abc"),
)
images = st.builds(
    lambda paths: image(*paths), st.lists(some_facts, unique_by=lambda facts: facts.path)
)


@given(images, images)
def test_differences_are_symmetric(before: Sequence[PathFacts], after: Sequence[PathFacts]) -> None:
    """The way back has the same names, and what came goes: added is removed, up is down."""
    there, back = changes(before, after), changes(after, before)
    assert [(c.name, c.before, c.after) for c in there] == [
        (c.name, c.after, c.before) for c in back
    ]
    assert [MIRRORED[change.difference] for change in there] == [
        change.difference for change in back
    ]
    assert [change.growth for change in there] == [-change.growth for change in back]


@given(images, images)
def test_nothing_is_left_out(before: Sequence[PathFacts], after: Sequence[PathFacts]) -> None:
    """Each store path of one image alone is in a change, and the sizes add up."""
    found = changes(before, after)
    old, new = ({facts.path for facts in each} for each in (before, after))
    assert old - new <= {path for change in found for path in change.before.paths}
    assert new - old <= {path for change in found for path in change.after.paths}
    sizes = [sum(facts.size for facts in each) for each in (before, after)]
    assert sum(change.growth for change in found) == sizes[1] - sizes[0]


@given(images)
def test_an_image_is_like_itself(one: Sequence[PathFacts]) -> None:
    """No change, also where the store paths are in another order."""
    assert changes(one, one[::-1]) == []


@pytest.mark.parametrize("low", range(len(VERSIONS)))
def test_versions_are_ordered_as_nix_does(low: int) -> None:
    """A later version is an upgrade: ``1.10`` is later than ``1.2``, and ``1.0pre`` no release."""
    for high in range(low + 1, len(VERSIONS)):
        (change,) = changes(
            image(facts(f"git-{VERSIONS[low]}")), image(facts(f"git-{VERSIONS[high]}"))
        )
        assert change.difference == Difference.UPGRADED


@pytest.mark.parametrize(
    ("before", "after", "kind"),
    [
        ("git-1.0", "git-1-0", Difference.REBUILT),  # which Nix takes for equal
        ("git-1.0", "git-1.0", Difference.REBUILT),
        ("git", "git", Difference.REBUILT),
        ("git", "git-1", Difference.UPGRADED),
        ("git-1.0-doc", "git-1.1-doc", Difference.UPGRADED),
        ("source-doc", "source-doc", Difference.REBUILT),
    ],
)
def test_kinds(before: str, after: str, kind: Difference) -> None:
    """The version decides, and where it does not differ, something was built anew."""
    (change,) = changes(image(facts(before, "a")), image(facts(after, "b")))
    assert change.difference == kind


def test_outputs_are_of_one_package() -> None:
    """Outputs are of the package that they are named after, whose versions are in order."""
    (change,) = changes(
        image(facts("git-2.9", "a", 5), facts("git-2.9-doc", "b", 2), facts("git-2.10", "c", 1)),
        image(),
    )
    paths = {store_path("git-2.9"), store_path("git-2.9-doc", "b"), store_path("git-2.10", "c")}
    assert change == Change("git", Versions(("2.9", "2.10"), frozenset(paths), 8), Versions())


layers = st.lists(st.builds(LayerFacts, st.sampled_from("abcdef"), st.integers(0, 9)))


@given(layers, layers)
def test_what_is_pulled(before: list[LayerFacts], after: list[LayerFacts]) -> None:
    """Each layer that is missing is pulled once, and none that is there."""
    pulled = [layer.digest for layer in to_pull(before, after)]
    old, new = ({layer.digest for layer in each} for each in (before, after))
    assert len(pulled) == len(set(pulled))
    assert set(pulled) == new - old
