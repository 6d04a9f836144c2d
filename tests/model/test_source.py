"""Sources and image keys."""

import itertools
import os
import subprocess
import sys

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nixery.model.image import Image, parse_image
from nixery.model.source import (
    Channel,
    Folder,
    GitRepository,
    PinnedSource,
    Source,
    hide_credentials,
    image_key,
    without_credentials,
)

IMAGE = parse_image("a/bc", "latest")
PINNED = PinnedSource(GitRepository("https://example.com/x"), "0" * 40)


def key(
    image: Image = IMAGE, pinned: PinnedSource = PINNED, budget: int = 94, packer: str = "p"
) -> str:
    return image_key(image, pinned, budget, packer)


def test_keys_differ_with_everything_that_counts() -> None:
    """Images that may differ in any byte have different keys."""
    keys = [
        key(),
        key(parse_image("ab/c", "latest")),
        key(parse_image("abc", "latest")),
        key(parse_image("arm64/a/bc", "latest")),
        key(parse_image("shell/a/bc", "latest")),
        key(pinned=attrs.evolve(PINNED, revision="1" * 40)),
        key(pinned=attrs.evolve(PINNED, source=GitRepository("https://example.com/y"))),
        key(pinned=attrs.evolve(PINNED, source=Channel("https://example.com/x"))),
        key(pinned=attrs.evolve(PINNED, source=Folder("https://example.com/x"))),
        key(budget=93),
        key(packer="q"),
    ]
    for one, other in itertools.combinations(keys, 2):
        assert one != other


def test_keys_are_the_same_for_the_same_image() -> None:
    """The tag, and how the name was written, is not in the key: the revision is."""
    assert key(parse_image("bc/a/bc", "other")) == key()


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
        "pinned = PinnedSource(GitRepository('https://example.com/x'), '0' * 40);"
        "print(image_key(parse_image('bc/a', 'latest'), pinned, 94, 'p'))"
    )
    for seed in ("1", "2"):
        command = [sys.executable, "-c", script]
        environ = {"PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)}
        printed = subprocess.run(command, env=environ, check=True, capture_output=True, text=True)
        assert printed.stdout.strip() == key()


def test_credentials_within_texts() -> None:
    """Every URL of a text is shown without its credentials, and the rest as it is."""
    text = "a@b 'https://u:secret@h/x' (ssh://secret@h) git@h:x"
    assert hide_credentials(text) == "a@b 'https://h/x' (ssh://h) git@h:x"


@given(st.text())
def test_texts_without_urls(text: str) -> None:
    """What holds no URL is left as it is."""
    assert hide_credentials(text.replace("://", ":")) == text.replace("://", ":")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://user:secret@example.com/x@y", "https://example.com/x@y"),
        ("https://example.com/x", "https://example.com/x"),
        ("git@example.com:x", "git@example.com:x"),
        ("ssh://git@example.com/x", "ssh://example.com/x"),
    ],
)
def test_credentials_are_not_shown(url: str, shown: str) -> None:
    """A URL is shown without what stands before its host."""
    assert without_credentials(url) == shown
    assert "secret" not in str(GitRepository(url))


@pytest.mark.parametrize("source", [Channel("c"), GitRepository("u"), Folder("/f")])
def test_requests_are_data(source: Source) -> None:
    """What Nix is asked for is text under fixed names."""
    request = PinnedSource(source, "rev").request()
    assert all(isinstance(value, str) for value in request.values())
    assert request["type"] in ("tarball", "git", "folder")
