"""Names of images, as commands take them."""

import click
import pytest

from nixery.cli.names import ImageName, image_path, split
from tests.cli.fake_api import FakeApi, Run

DIGEST = "sha256:" + "0" * 64


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("git", ("git", "latest", None)),
        ("shell/git:1.0", ("shell/git", "1.0", None)),
        (f"git@{DIGEST}", ("git", "latest", DIGEST)),
        ("git@", ("git", "latest", "")),
        ("localhost/git", ("git", "latest", None)),
        ("localhost:8080/shell/git:x", ("shell/git", "x", None)),
        ("docker://registry.example:443/git", ("git", "latest", None)),
        (f"host:5000/git@{DIGEST}", ("git", "latest", DIGEST)),
        ("python3packages.six/git", ("python3packages.six/git", "latest", None)),
    ],
)
def test_the_parts_of_a_name(text: str, parts: tuple[str, str, str | None]) -> None:
    """A host is taken off, and a package with a dot in its name is none."""
    assert split(text) == parts


def test_an_empty_digest_is_none() -> None:
    """A name whose digest is missing, as a script's variable may be, is not taken for a tag."""
    with pytest.raises(click.BadParameter, match="'' is not a digest"):
        ImageName().convert("git@", None, None)


@pytest.mark.parametrize("command", ["pull-ready", "verify", "log"])
def test_builds_are_named_by_tags(run: Run, api: FakeApi, command: str) -> None:
    """Where a build is meant, a digest is refused, and not taken for the tag latest."""
    ran = run(command, f"git@{DIGEST}")
    assert (ran.code, api.asked) == (2, [])
    assert "by its tag here, not by its digest" in ran.err


def test_paths() -> None:
    """What a name may have in it is kept as it is in a URL, and all else is quoted."""
    assert image_path(f"shell/git@{DIGEST}") == f"/api/images/shell/git@{DIGEST}"
    assert image_path("a b?c#d") == "/api/images/a%20b%3Fc%23d"
