"""Documents as bytes, and in statements."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from nixery.attest.document import IN_TOTO, STATEMENT, Document, encode
from tests.attest.samples import SUBJECT

VALUES = st.recursive(
    st.text() | st.integers() | st.booleans(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(st.dictionaries(st.text(), VALUES))
def test_json(document: dict[str, Any]) -> None:
    """Any object is written as JSON, in ASCII, without more space than it takes."""
    content = encode(document)
    assert json.loads(content) == document
    assert content == json.dumps(document, separators=(",", ":")).encode("ascii")


@given(st.lists(VALUES))
def test_long_lists(elements: list[Any]) -> None:
    """An iterator is written as the list of what it gives, however deep in objects it is."""
    assert json.loads(encode({"x": {"y": iter(elements)}})) == {"x": {"y": elements}}


def test_statement() -> None:
    """A document is the predicate of a statement about the image; a statement is one already."""
    document = Document("a", "b", b'{"x":1}', "https://type", "x.json")
    assert json.loads(document.statement(SUBJECT, "shell/git")) == {
        "_type": STATEMENT,
        "subject": [{"name": "shell/git", "digest": {"sha256": SUBJECT.digest.hex}}],
        "predicateType": "https://type",
        "predicate": {"x": 1},
    }
    stated = Document(IN_TOTO, IN_TOTO, b"{}", "https://type", "x.json")
    assert stated.statement(SUBJECT, "shell/git") == b"{}"
