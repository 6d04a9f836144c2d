"""The address at which everybody finds a package source."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nixery.model.origin import address_of, public_address
from nixery.model.source import (
    NIXPKGS_URL,
    Channel,
    Commit,
    Flake,
    FolderContents,
    GitRepository,
    LocalFolder,
    LockedFlake,
    PinnedSource,
)

COMMIT = "7" * 40
SET = "https://github.com/example/set"


def of_git(url: str) -> str:
    return address_of(PinnedSource(GitRepository(url), Commit(url, COMMIT)))


def of_flake(reference: str) -> str:
    return address_of(PinnedSource(Flake("flake"), LockedFlake(reference, COMMIT)))


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("https://user:secret@git.example.com/a/b.git", "https://git.example.com/a/b"),
        ("https://Git.Example.com:443/a/b/?token=x#y", "https://git.example.com/a/b"),
        ("http://127.0.0.1:8000/tree/.git", "http://127.0.0.1:8000/tree"),
        ("git://example.com/a", "git://example.com/a"),
        ("https://[::1]:8443/a", "https://[::1]:8443/a"),
        ("https://example.com/größe $x", "https://example.com/gr%C3%B6%C3%9Fe%20$x"),
        ("https://example.com", "https://example.com"),
    ],
)
def test_what_everybody_can_reach(url: str, address: str) -> None:
    """An address that everybody can use is told, without what is a secret or makes two of one."""
    assert of_git(url) == address


@pytest.mark.parametrize(
    "url",
    [
        "file:///srv/set.git",
        "/srv/set.git",
        "ssh://git@git.internal/srv/set.git",
        "git@git.internal:set.git",
        "ext::sh -c x",
        "https://",
        "",
    ],
)
def test_what_is_not_told(url: str) -> None:
    """Places on a machine, and what is read by SSH alone, are told to nobody."""
    assert of_git(url) == ""


@pytest.mark.parametrize(
    "url",
    [
        "https://user:secret@github.com/example/set.git",
        "ssh://git@github.com/example/set.git",
        "ssh://git@github.com:22/example/set",
        "git@github.com:example/set.git",
    ],
)
def test_one_repository_has_one_address(url: str) -> None:
    """However a repository of a forge is fetched, and by whatever kind of source, its address is
    one."""
    assert of_git(url) == SET
    work_tree = PinnedSource(LocalFolder("/home/me/set"), Commit("/home/me/set", COMMIT, url))
    assert address_of(work_tree) == SET
    assert of_flake(f"github:example/set/{COMMIT}") == SET
    assert of_flake(f"git+{SET}.git?ref=main&rev={COMMIT}") == SET
    assert of_flake(f"git+ssh://git@github.com/example/set?rev={COMMIT}") == SET


def test_flakes() -> None:
    """A flake's address is that of its repository, or archive."""
    assert of_flake(f"gitlab:group%2Fsub/set/{COMMIT}") == "https://gitlab.com/group/sub/set"
    assert of_flake(f"github:a/b/{COMMIT}?host=ghe.example.com") == "https://ghe.example.com/a/b"
    assert of_flake(f"sourcehut:~a/b/{COMMIT}") == "https://git.sr.ht/~a/b"
    archive = "https://example.com/set.tar.gz"
    assert of_flake(f"tarball+{archive}?narHash=sha256-x") == archive
    for place in (
        "path:/srv/set?narHash=x",
        "git+file:///srv/set",
        f"git+file:/srv/set?rev={COMMIT}",
    ):
        assert of_flake(place) == ""


def test_channels_and_folders() -> None:
    """A channel is nixpkgs, whichever mirror it is read from; a folder that is no commit is
    nowhere to be found."""
    mirror = "https://mirror.internal/nixpkgs"
    assert address_of(PinnedSource(Channel("c", mirror), Commit(mirror, COMMIT))) == NIXPKGS_URL
    assert of_git(NIXPKGS_URL) == NIXPKGS_URL
    assert address_of(PinnedSource(LocalFolder("/srv/set"), FolderContents("/srv/set", "1"))) == ""
    assert address_of(PinnedSource(LocalFolder("/srv/set"), Commit("/srv/set", COMMIT))) == ""


users = st.from_regex(r"[a-z]{1,8}(:[a-z0-9]{1,8})?", fullmatch=True)


@given(users, st.from_regex(r"[a-z0-9./_-]{0,20}", fullmatch=True))
def test_no_credentials(user: str, path: str) -> None:
    """Who may read a repository is no part of its address."""
    assert public_address(f"https://{user}@h.example/{path}") == public_address(
        f"https://h.example/{path}"
    )


@given(st.text())
def test_addresses_are_plain(url: str) -> None:
    """Whatever the source is called, an address is printable ASCII without spaces, or nothing."""
    for address in (public_address(url), of_flake(url), public_address(f"https://h/{url}")):
        assert all("!" <= letter <= "~" for letter in address)
