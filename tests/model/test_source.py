"""Sources and image keys."""

import itertools

import attrs
import pytest

from nixery.model.image import Image, parse_image
from nixery.model.source import (
    Channel,
    Folder,
    GitRepository,
    PinnedSource,
    Source,
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
