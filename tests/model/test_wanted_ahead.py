"""The images that an operator wants made in advance."""

import pytest

from nixery.model.image import parse_image
from nixery.model.wanted_ahead import WantedAhead, read_wanted


@pytest.mark.parametrize(
    ("text", "images", "most"),
    [
        ("git", [("git", "latest")], 0),
        ("shell/git,htop:v1  git", [("shell/git", "latest"), ("htop", "v1"), ("git", "latest")], 0),
        ("git shell/htop git", [("git", "latest"), ("shell/htop", "latest")], 0),
        ("most-pulled:20", [], 20),
        ("git, most-pulled:3", [("git", "latest")], 3),
    ],
)
def test_read(text: str, images: list[tuple[str, str]], most: int) -> None:
    """Names with or without tags, and a number of those that are pulled most, in any order."""
    expected = tuple(parse_image(*image) for image in images)
    assert read_wanted(text) == WantedAhead(expected, most)
    assert read_wanted(text)


@pytest.mark.parametrize(
    "text",
    ["Git", "git:a!b", "most-pulled:0", "most-pulled:all", "most-pulled:-1", "../x", "a//b", "a:"],
)
def test_not_understood(text: str) -> None:
    """What is no name of an image is refused, with what is expected."""
    with pytest.raises(ValueError, match="names of images"):
        read_wanted(text)


def test_bounded() -> None:
    """So many images are no more than a registry's most important ones."""
    with pytest.raises(ValueError, match="at most 1000"):
        read_wanted("git most-pulled:1000")
    assert not WantedAhead()
