"""The map of a closure."""

import attrs
from hypothesis import given
from hypothesis import strategies as st

from nixery.model.closure_map import asked_names, closure_map, needing
from nixery.model.contents import Contents, PackageFacts, PathFacts
from nixery.model.treemap import Rectangle

WHOLE = Rectangle(0, 0, 160, 100)


def store_path(name: str) -> str:
    return f"/nix/store/{name[0] * 32}-{name}"


def facts(name: str, size: int, *references: str) -> PathFacts:
    return PathFacts(store_path(name), size, tuple(map(store_path, references)))


def package(attribute: str, *paths: str) -> PackageFacts:
    return PackageFacts(attribute, tuple(map(store_path, paths)))


IMAGE = Contents(
    *("shell/git/jq", "latest", "x86_64-linux", "s", "1", 0.0),
    packages=(
        package("bashInteractive", "bash"),
        package("cacert", "cacert"),
        package("coreutils", "coreutils"),
        package("git", "git"),
        package("jq", "jq", "onig"),
    ),
    paths=(
        facts("bash", 10, "libc"),
        facts("cacert", 1),
        facts("coreutils", 20, "libc", "acl"),
        facts("acl", 5, "libc"),
        facts("git", 300, "perl", "libc"),
        facts("perl", 200, "libc"),
        facts("jq", 2, "onig"),
        facts("onig", 3, "libc"),
        facts("libc", 40),
    ),
    layers=(),
)


def test_who_needs_what() -> None:
    """A store path is needed by the parts of the name that lead to it; the packages of ``shell``
    are one part, and what every image has is none."""
    assert asked_names(IMAGE) == ["shell", "", "shell", "git", "jq"]
    needed = {path[44:]: names for path, names in needing(IMAGE).items()}
    assert needed == {
        **{"bash": ["shell"], "coreutils": ["shell"], "acl": ["shell"], "cacert": [""]},
        **{"git": ["git"], "perl": ["git"], "jq": ["jq"], "onig": ["jq"]},
        "libc": ["shell", "git", "jq"],
    }


def test_regions() -> None:
    """What a package alone needs lies together, what several need too; the greatest is first."""
    regions = closure_map(IMAGE, needing(IMAGE), WHOLE, 100)
    assert [(r.names, r.shared, r.count, r.size) for r in regions] == [
        (("git",), False, 2, 500),
        (("shell",), False, 3, 35),
        (("jq",), False, 2, 5),
        ((), False, 1, 1),
        ((), True, 1, 40),
    ]
    assert [tile.path[44:] for tile in regions[0].tiles] == ["git", "perl"]


def test_small_ones_are_together() -> None:
    """Of many store paths only the greatest have tiles of their own."""
    regions = closure_map(IMAGE, needing(IMAGE), WHOLE, 2)
    tiles = {"".join(r.names): [(t.path[44:], t.count, t.size) for t in r.tiles] for r in regions}
    assert tiles["git"] == [("git", 1, 300), ("perl", 1, 200)]
    assert tiles["shell"] == [("", 3, 35)]
    assert tiles["jq"] == [("", 2, 5)]


@st.composite
def images(draw: st.DrawFn) -> Contents:
    names = [f"{letter}{number}" for number in range(3) for letter in "abcdefgh"]
    count = draw(st.integers(1, len(names)))
    paths = []
    for at, name in enumerate(names[:count]):
        later = names[at + 1 : count]
        references = draw(st.lists(st.sampled_from(later), max_size=2)) if later else []
        paths.append(facts(name, draw(st.integers(0, 10**9)), *references))
    reached = {reference for each in paths for reference in each.references}
    own = [name for name in names[:count] if store_path(name) not in reached]
    return attrs.evolve(
        IMAGE,
        name="/".join(sorted(own)),
        packages=tuple(package(name, name) for name in own),
        paths=tuple(paths),
    )


@given(images(), st.integers(0, 20))
def test_the_map_is_whole(image: Contents, most: int) -> None:
    """Each store path is counted once, no byte is lost, the area is used up, and there are no more
    tiles than the bound and one for each region."""
    regions = closure_map(image, needing(image), WHOLE, most)
    tiles = [tile for region in regions for tile in region.tiles]
    assert sum(tile.count for tile in tiles) == sum(r.count for r in regions) == len(image.paths)
    size = sum(each.size for each in image.paths)
    assert sum(tile.size for tile in tiles) == sum(r.size for r in regions) == size
    assert abs(sum(tile.rectangle.area for tile in tiles) - WHOLE.area) < 1e-6
    single = [tile.path for tile in tiles if tile.path]
    assert len(set(single)) == len(single)
    assert len(tiles) <= most + 2 * len(regions)
    assert len(regions) <= 9
