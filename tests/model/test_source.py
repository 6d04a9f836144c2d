"""Package sources."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nixery.model.image import parse_image
from nixery.model.source import (
    Channel,
    Commit,
    Configuration,
    Flake,
    GitRepository,
    LocalFolder,
    PinnedSource,
    Source,
    header_value,
    hide_credentials,
    is_commit,
    without_credentials,
)

IMAGE = parse_image("a/bc", "latest")
URL = "https://example.com/x"
PINNED = PinnedSource(GitRepository(URL), Commit(URL, "0" * 40))
TOLD = Configuration('{"allowUnfree":true}', "/overlays.nix", "1")


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
        ("https://user:se/secret@example.com/x", "https://example.com/x"),
        ("https://user:secret@[::1]:80/x@y", "https://[::1]:80/x@y"),
        ("https://example.com:80/x@y", "https://example.com:80/x@y"),
        ("https://example.com/x", "https://example.com/x"),
        ("git@example.com:x", "git@example.com:x"),
        ("ssh://git@example.com/x", "ssh://example.com/x"),
        ("https://example.com/x?token=secret&dir=a", "https://example.com/x?dir=a"),
        ("gitlab:o/r?host=example.com&token=secret", "gitlab:o/r?host=example.com"),
        ("git+https://secret@example.com/x?token=secret", "git+https://example.com/x"),
        ("https://example.com?token=secret", "https://example.com"),
        ("https://example.com?token=secret/x&dir=a", "https://example.com?dir=a"),
        ("https://user:secret@example.com?token=secret", "https://example.com"),
        ("s3://example?profile=x&secret-key=/etc/secret", "s3://example"),
    ],
)
def test_credentials_are_not_shown(url: str, shown: str) -> None:
    """A URL is shown without what stands before its host, and of its query what is no secret."""
    assert without_credentials(url) == shown
    for source in (GitRepository(url), Flake(url), Channel("c", url)):
        assert "secret" not in str(source) + source.label


@pytest.mark.parametrize(
    ("source", "label"),
    [
        (Channel("nixos-unstable", "https://mirror.example/x"), "channel:nixos-unstable"),
        (GitRepository(URL), f"git:{URL}"),
        (LocalFolder("/home/someone/packages/"), "folder:packages"),
        (Flake("github:a/b"), "flake:github:a/b"),
        (GitRepository("file:///srv/packages.git"), "git:file://packages.git"),
        (Flake("git+file:///srv/packages?ref=main"), "flake:git+file://packages?ref=main"),
        (Flake("path:/srv/packages"), "flake:path:packages"),
        (Flake("/srv/packages"), "flake:packages"),
    ],
)
def test_labels(source: Source, label: str) -> None:
    """Headers name a source without telling where on this machine it lies."""
    assert source.label == label


@given(st.text())
def test_header_values(text: str) -> None:
    """Whatever a source is called, a header with its name is one line of printable ASCII."""
    value = header_value(text)
    assert value.isascii()
    assert value.isprintable() or not value


def test_readable_header_values() -> None:
    """What is printable ASCII stays as it is."""
    assert header_value("git:https://h/a b") == "git:https://h/a b"
    assert header_value("a\r\nX: é\udcff") == "a%0D%0AX: %C3%A9%FF"


@pytest.mark.parametrize("text", ["0" * 40, "ab" * 32])
def test_commits(text: str) -> None:
    """Full ids of commits are told from other names."""
    assert is_commit(text)
    for other in (text[:-1], text + "0", text.replace("a", "A") + "g", text[:-1] + "\n"):
        assert not is_commit(other)


@pytest.mark.parametrize(
    "before", ["", "path:", "file:", "file://", "file://localhost", "git+file:"]
)
@pytest.mark.parametrize("behind", ["", "?dir=x", "?ref=main"])
def test_no_label_names_a_folder(before: str, behind: str) -> None:
    """However a place of this machine is written, a source is named by its last step."""
    for kind in ("", "tarball+", "hg+") if before.startswith("file:") else ("",):
        source = Flake(f"{kind}{before}/home/me/set{behind}")
        for text in (source.label, str(source)):
            assert "home" not in text
            assert text.endswith(f"set{behind}")
    for url in ("/home/me/set", "file:///home/me/set", "file://localhost/home/me/set"):
        assert "home" not in GitRepository(url).label
