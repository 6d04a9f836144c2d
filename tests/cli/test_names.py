"""Names of images, as commands take them."""

import pytest

from nixery.cli.names import image_path, split

DIGEST = "sha256:" + "0" * 64


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("git", ("git", "latest", "")),
        ("shell/git:1.0", ("shell/git", "1.0", "")),
        (f"git@{DIGEST}", ("git", "latest", DIGEST)),
        ("localhost/git", ("git", "latest", "")),
        ("localhost:8080/shell/git:x", ("shell/git", "x", "")),
        ("docker://registry.example:443/git", ("git", "latest", "")),
        (f"host:5000/git@{DIGEST}", ("git", "latest", DIGEST)),
        ("python3packages.six/git", ("python3packages.six/git", "latest", "")),
    ],
)
def test_the_parts_of_a_name(text: str, parts: tuple[str, str, str]) -> None:
    """A host is taken off, and a package with a dot in its name is none."""
    assert split(text) == parts


def test_paths() -> None:
    """What a name may have in it is kept as it is in a URL, and all else is quoted."""
    assert image_path(f"shell/git@{DIGEST}") == f"/api/images/shell/git@{DIGEST}"
    assert image_path("a b?c#d") == "/api/images/a%20b%3Fc%23d"
