"""What the registry's error documents hold."""

import json

from hypothesis import given
from hypothesis import strategies as st

from nixery.http.answers import error_document, printable

DETAILS = st.recursive(
    st.text() | st.integers() | st.none(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from("abc"), inner),
    max_leaves=10,
)


@given(st.text(), DETAILS)
def test_nothing_that_a_terminal_obeys(message: str, detail: object) -> None:
    """Neither the message nor the detail brings control characters to a client's terminal."""
    document = json.loads(error_document("UNKNOWN", message, detail))
    for text in _texts(document):
        assert printable(text) == text


def _texts(value: object) -> list[str]:
    match value:
        case str():
            return [value]
        case dict():
            return [text for inner in value.values() for text in _texts(inner)]
        case list():
            return [text for inner in value for text in _texts(inner)]
        case _:
            return []
