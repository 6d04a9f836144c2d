"""Image keys."""

import itertools
import os
import subprocess
import sys

import attrs
from hypothesis import given
from hypothesis import strategies as st

from nixery.model.identity import COMMIT, OFF, Naming
from nixery.model.image import Image, parse_image
from nixery.model.image_key import image_key, index_key
from nixery.model.source import (
    NIXPKGS_URL,
    Channel,
    Commit,
    Configuration,
    FolderContents,
    GitRepository,
    LocalFolder,
    LockedFlake,
    PinnedSource,
    canonical_sha256,
)

IMAGE = parse_image("a/bc", "latest")
URL = "https://example.com/x"
PINNED = PinnedSource(GitRepository(URL), Commit(URL, "0" * 40))
TOLD = Configuration('{"allowUnfree":true}', "/overlays.nix", "1")


def key(
    image: Image = IMAGE,
    pinned: PinnedSource = PINNED,
    budget: int = 94,
    packer: str = "p",
    naming: Naming = Naming(),  # noqa: B008 - a value
) -> str:
    return image_key(image, pinned, budget, packer, naming)


def test_keys_differ_with_everything_that_counts() -> None:
    """Images that may differ in any byte have different keys."""
    keys = [
        key(),
        key(parse_image("ab/c", "latest")),
        key(parse_image("abc", "latest")),
        key(parse_image("arm64/a/bc", "latest")),
        key(parse_image("user/a/bc", "latest")),
        key(parse_image("shell/a/bc", "latest")),
        key(pinned=attrs.evolve(PINNED, pin=Commit(URL, "1" * 40))),
        key(pinned=attrs.evolve(PINNED, pin=Commit("https://example.com/y", "0" * 40))),
        key(pinned=attrs.evolve(PINNED, pin=FolderContents(URL, "0" * 40))),
        key(pinned=attrs.evolve(PINNED, pin=LockedFlake(URL, "0" * 40))),
        key(pinned=attrs.evolve(PINNED, configuration=Configuration())),
        key(pinned=attrs.evolve(PINNED, configuration=TOLD)),
        key(pinned=attrs.evolve(PINNED, configuration=attrs.evolve(TOLD, revision="2"))),
        key(pinned=attrs.evolve(PINNED, configuration=attrs.evolve(TOLD, config="{}"))),
        key(budget=93),
        key(packer="q"),
        key(naming=Naming(OFF)),
        key(naming=Naming(created=COMMIT)),
    ]
    for one, other in itertools.combinations(keys, 2):
        assert one != other


def test_keys_are_the_same_for_the_same_image() -> None:
    """The tag, how the name was written, the credentials of a URL, and whether the source can be
    asked are not in the key: the revision is."""
    assert key(parse_image("bc/a/bc", "other")) == key(parse_image("amd64/a/bc", "x")) == key()
    url = "https://user:secret@example.com/x"
    other = PinnedSource(GitRepository(url), Commit(url, "0" * 40), stale=True)
    assert key(pinned=other) == key()


def test_keys_of_indexes() -> None:
    """An index's key is that of its images, in any order, and of its type; it is no image's."""
    keys = ["a" * 64, "b" * 64]
    assert index_key(keys, "x") == index_key(reversed(keys), "x")
    others = [index_key(keys, "y"), index_key(keys[:1], "x"), key()]
    assert index_key(keys, "x") not in others


def test_a_channel_is_a_repository() -> None:
    """Whether a revision is nixpkgs' as a channel's or as a repository's is not in the key."""
    pin = Commit(NIXPKGS_URL, "0" * 40)
    channel, repository = (
        key(pinned=PinnedSource(source, pin))
        for source in (Channel("c"), GitRepository(NIXPKGS_URL))
    )
    assert channel == repository


def test_work_trees_of_other_origins() -> None:
    """A work tree that was cloned from another place makes images that say so."""
    one, other = (
        PinnedSource(LocalFolder("/set"), Commit("/set", "0" * 40, f"https://example.com/{name}"))
        for name in ("one", "other")
    )
    assert key(pinned=one) != key(pinned=other)


def test_what_an_earlier_format_remembered() -> None:
    """A storage that an earlier version has filled is asked for no image by a key of its own: such
    images are made anew."""
    earlier = {
        "packages": IMAGE.packages,
        "optional": IMAGE.optional,
        "groups": IMAGE.groups,
        "user": IMAGE.user,
        "system": IMAGE.system,
        "source": PINNED.pin.identity(),
        "configuration": None,
        "budget": 94,
        "packer": "p",
        "format": 3,
    }
    assert key() != canonical_sha256(earlier)


names = st.lists(st.from_regex(r"[ab]{1,2}(\.[ab])?", fullmatch=True), min_size=1, max_size=4)


@given(names, names)
def test_keys_are_equal_only_for_equal_images(one: list[str], other: list[str]) -> None:
    """Two names have one key exactly if they ask for the same packages."""
    keys = [key(parse_image("/".join(parts), "latest")) for parts in (one, other)]
    assert (keys[0] == keys[1]) == (set(one) == set(other))


def test_keys_are_the_same_everywhere() -> None:
    """Another process, with another order of sets and dicts, finds the same key."""
    script = (
        "from nixery.model.image import *; from nixery.model.source import *;"
        "from nixery.model.image_key import *;"
        "url = 'https://example.com/x';"
        "pinned = PinnedSource(GitRepository(url), Commit(url, '0' * 40));"
        "print(image_key(parse_image('bc/a', 'latest'), pinned, 94, 'p', Naming()))"
    )
    for seed in ("1", "2"):
        command = [sys.executable, "-c", script]
        environ = {"PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)}
        printed = subprocess.run(command, env=environ, check=True, capture_output=True, text=True)
        assert printed.stdout.strip() == key()
