"""Pages as HTML."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.web.template import Tag, flattenString, tags

from nixery.web.pages.markup import markup

texts = st.text(st.characters(codec="utf-8"), max_size=20) | st.sampled_from(
    ["<b>", "&amp;", '"><script>', "]]>", "<!--", "'"]
)
names = st.sampled_from(["", "p", "svg", "br", "input", "meta"])


def _tag(name: str, attributes: dict[Any, Any], children: list[Any]) -> Tag:
    return Tag(name, attributes, children)


contents = st.recursive(
    texts,
    lambda inner: st.builds(
        _tag, names, st.dictionaries(st.sampled_from(["a", "b-c"]), texts), st.lists(inner)
    ),
)


@given(contents)
def test_pages_are_written_as_twisted_does(content: Tag | str) -> None:
    """All texts and attributes are escaped as Twisted's own writer escapes them."""
    written: list[Any] = []
    flattenString(None, content).addBoth(written.append)
    assert written == [markup(content)]


def test_a_break_has_no_end() -> None:
    """``wbr`` is an empty element, which Twisted's writer closes, against the HTML standard."""
    assert markup(tags.p("a", tags.wbr(), "b")) == b"<p>a<wbr />b</p>"


@pytest.mark.parametrize("part", [None, 1, b"bytes"])
def test_other_things_are_refused(part: Any) -> None:
    """A part that is neither a tag nor a text is a mistake of the page's maker."""
    with pytest.raises(TypeError, match=f"{type(part).__name__} can't be in a page"):
        markup(tags.p(part))
