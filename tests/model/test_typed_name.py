"""Names while they are typed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nixery.model.image import META, parse_image
from nixery.model.request_errors import NameInvalid, TagInvalid
from nixery.model.typed_name import META_PACKAGES, TypedName

typed = st.text(st.sampled_from("abSH/ :.-_0é<"), max_size=30) | st.text(max_size=20)


def test_meta_packages() -> None:
    """Every meta-package is explained, and nothing else."""
    assert set(META_PACKAGES) == set(META)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("git htop", "git/htop:latest"),
        (" Git//htop/ ", "git/htop:latest"),
        ("git shell arm64 git", "shell/arm64/git:latest"),
        ("git:v1 ", "git:v1"),
        ("docker pull h:5000/git/jq:v1", "git/jq:v1"),
        ("FROM h:5000/git", "git:latest"),
        ("", ":latest"),
    ],
)
def test_understood(text: str, name: str) -> None:
    """Spaces are as good as slashes, meta-packages come first, and a host is no part of a name."""
    assert TypedName.parse(text, "h:5000").name == name


@pytest.mark.parametrize(
    ("text", "word", "completed"),
    [
        ("gi", "git", "git/"),
        ("shell jq gi", "git", "shell/jq/git/"),
        ("jq sh", "shell", "shell/jq/"),
        ("jq gi", "jq", "jq/"),
        ("jq/", "git", "jq/git/"),
        ("jq:", "v1", "jq:v1"),
    ],
)
def test_completed(text: str, word: str, completed: str) -> None:
    """A suggestion takes the place of the last word, and nothing is named twice."""
    assert TypedName.parse(text).completed(word) == completed


def test_replaced() -> None:
    """A word takes the place of another; the tag stays."""
    assert TypedName.parse("rg/git:v1").replaced("rg", "ripgrep") == "git/ripgrep:v1"


@given(typed)
def test_the_same_grammar(text: str) -> None:
    """A name has a fault if a pull would be refused, and no other; what is understood is
    understood again in the same way."""
    name, refused = TypedName.parse(text), ""
    try:
        if name.words:
            parse_image(name.path, name.tag)
    except (NameInvalid, TagInvalid) as error:
        refused = str(error)
    assert name.fault == refused
    if not name.fault:
        assert TypedName.parse(name.name).name == name.name
