"""What an image says of itself."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nixery.model.about import About, License
from nixery.model.closure import Root
from nixery.model.identity import AUTO, COMMIT, OFF, Identity, Naming, labels_of, rfc3339
from nixery.model.image import parse_image
from nixery.model.source import Commit, GitRepository, PinnedSource

REVISION = "0123456789abcdef" * 2 + "01234567"
URL = "https://user:secret@example.com/set.git"
PINNED = PinnedSource(GitRepository(URL), Commit(URL, REVISION))
ABOUT = About("2.0", "Version control", "https://git.example", (License("GPL-2.0-only", "gpl2"),))


def fields(text: str) -> dict[str, str]:
    """The variables of an os-release file, as a shell reads them."""
    variables = {}
    for line in text.splitlines():
        name, value = re.fullmatch(
            r'([A-Z_]+)=(?:([A-Za-z0-9]+)|"((?:[^"\\$`]|\\["\\$`])*)")', line
        ).group(1, 0)  # type: ignore[union-attr]
        value = value.partition("=")[2]
        variables[name] = re.sub(r"\\(.)", r"\1", value[1:-1] if value[0] == '"' else value)
    return variables


def test_os_release() -> None:
    """The file names image, revision and source by the specification's variables."""
    said = fields(Identity("shell/git", REVISION, "https://example.com/set").os_release)
    assert said == {
        "NAME": "Nixery",
        "ID": "nixery",
        "VERSION": "0123456789ab",
        "VERSION_ID": REVISION,
        "PRETTY_NAME": "Nixery shell/git (0123456789ab)",
        "VARIANT": "shell/git",
        "BUILD_ID": REVISION,
        "HOME_URL": "https://example.com/set",
    }
    assert "HOME_URL" not in fields(Identity("git", REVISION).os_release)


@pytest.mark.parametrize("revision", ["sha256-BR9x+2D/o=", "/nix/store/abc-source"])
def test_revisions_that_are_no_commits(revision: str) -> None:
    """A hash or a store path is told as it is, and as a version without what that may not hold."""
    said = fields(Identity("git", revision).os_release)
    assert said["BUILD_ID"] == revision
    assert re.fullmatch(r"[0-9a-z._-]+", said["VERSION_ID"])


@given(st.text(min_size=1), st.text())
def test_values_are_data(revision: str, address: str) -> None:
    """Whatever a revision or an address holds, the file holds it as one variable's value."""
    said = fields(Identity("git", revision, address).os_release)
    printable = "".join(letter for letter in revision if letter.isprintable())
    assert said["BUILD_ID"] == printable
    assert said["ID"] == "nixery"


def test_labels_of_one_package() -> None:
    """An image of one package says what that is."""
    image, identity = parse_image("git", "x"), Identity("git", REVISION, "https://example.com/set")
    labels = labels_of(identity, image, [Root("git", "git", "/git", about=ABOUT)])
    assert labels == {
        "org.opencontainers.image.title": "git",
        "org.opencontainers.image.source": "https://example.com/set",
        "org.opencontainers.image.revision": REVISION,
        "org.opencontainers.image.licenses": "GPL-2.0-only",
        "org.opencontainers.image.version": "2.0",
        "org.opencontainers.image.description": "Version control",
        "org.opencontainers.image.url": "https://git.example",
    }


@pytest.mark.parametrize("name", ["shell/git", "git/jq"])
def test_labels_of_several_packages(name: str) -> None:
    """An image of several packages does not say of itself what one of them is, but for the
    licences of all."""
    image = parse_image(name, "x")
    roots = [Root(package, package, f"/{package}", about=ABOUT) for package in image.packages]
    assert labels_of(Identity(name, REVISION), image, roots) == {
        "org.opencontainers.image.title": name,
        "org.opencontainers.image.revision": REVISION,
        "org.opencontainers.image.licenses": "GPL-2.0-only",
    }


def test_what_is_not_known_is_not_told() -> None:
    """A label without a value is left out."""
    image = parse_image("git", "x")
    labels = labels_of(Identity("git", "1"), image, [Root("git", "git", "/git")])
    assert set(labels) == {"org.opencontainers.image.title", "org.opencontainers.image.revision"}


def test_what_the_operator_has_told() -> None:
    """The source is that of the package set, another one, or none."""
    assert Naming(AUTO).address(PINNED) == "https://example.com/set"
    assert Naming(OFF).address(PINNED) == ""
    assert Naming("https://other.example/x", COMMIT).address(PINNED) == "https://other.example/x"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (1_700_000_000, "2023-11-14T22:13:20Z"),
        (0, "1970-01-01T00:00:01Z"),
        (-5, "1970-01-01T00:00:01Z"),
        (10**18, "9999-12-31T23:59:59Z"),
    ],
)
def test_dates(seconds: int, text: str) -> None:
    """A date is in UTC; one that can't be written is the nearest that can."""
    assert rfc3339(seconds) == text


def test_the_date_of_an_image() -> None:
    """An image has the date of its revision, and without one a second after the epoch."""
    assert Identity("git", REVISION, created=1_700_000_000).date == "2023-11-14T22:13:20Z"
    assert Identity("git", REVISION).date == "1970-01-01T00:00:01Z"
