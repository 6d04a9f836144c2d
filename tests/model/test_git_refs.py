"""Branches and tags of a repository."""

from hypothesis import given
from hypothesis import strategies as st

from nixery.model.git_refs import Listing, object_format

LISTED = """\
a\tHEAD
a\trefs/heads/main
b\trefs/heads/feature/x
c\trefs/pull/1/head
d\trefs/tags/heavy
e\trefs/tags/heavy^{}
f\trefs/tags/main
g\trefs/tags/light
h\trefs/remotes/origin/HEAD
not a line
"""


def test_names() -> None:
    """Branches and tags are found by their short names, a branch before a tag, a tag by what it is
    of; other refs are no names."""
    listing = Listing.parse(LISTED)
    assert listing.names == {"main", "feature/x", "heavy", "light"}
    found = {name: listing.commit(name) for name in ("main", "heavy", "light", "pull/1/head")}
    assert found == {"main": "a", "heavy": "e", "light": "g", "pull/1/head": None}
    assert (listing.head, listing.detached) == ("a", False)
    assert Listing.parse("x\tHEAD\na\trefs/heads/main\n").detached
    assert not Listing.parse("a\trefs/heads/main\n").detached


def test_branches_that_look_like_tags() -> None:
    """A branch whose name begins as that of a tag does is none."""
    listing = Listing.parse("a\trefs/heads/refs/tags/v1\n")
    assert listing.names == {"refs/tags/v1"}
    assert listing.commit("v1") is None
    assert listing.tips(lambda name: name == "v1") == {}


def test_tips() -> None:
    """Histories begin at HEAD and at the names that are allowed; an annotated tag's own id leads to
    what it is of."""
    listing = Listing.parse(LISTED)
    everything = {"a": "a", "b": "b", "d": "e", "e": "e", "f": "f", "g": "g"}
    assert listing.tips(lambda name: True) == everything
    assert listing.tips(lambda name: name == "heavy") == {"a": "a", "d": "e", "e": "e"}


def test_ids_in_a_text() -> None:
    """The names are found whose ids a message of git has."""
    listing = Listing.parse(f"{'1' * 40}\trefs/tags/x\n{'2' * 40}\trefs/tags/x^{{}}\n")
    assert listing.named(f"bad revision '{'2' * 40}'") == {"refs/tags/x"}
    assert listing.of("refs/tags/x") == ["1" * 40, "2" * 40]
    assert listing.named("something else") == set()


def test_hash_functions() -> None:
    """A repository's hash function is known by its ids."""
    assert Listing.parse(f"{'1' * 64}\tHEAD\n").object_format == "sha256"
    assert Listing({}).object_format == object_format("1" * 40) == "sha1"


@given(st.text())
def test_any_text(text: str) -> None:
    """Whatever a remote sends, nothing but branches, tags and HEAD is listed."""
    for name in Listing.parse(text).ids:
        assert name == "HEAD" or name.startswith(("refs/heads/", "refs/tags/"))
