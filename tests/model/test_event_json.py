"""Events as JSON, and back."""

import json
from typing import Any, get_args

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nixery.model.event_json import document, line, parse
from nixery.model.events import Event, FetchesPlanned, LogLine, Packed, Skipped

KINDS: list[Any] = list(get_args(Event))
ANY_TEXT = st.text(st.characters())  # lone surrogates, NUL and ESC among them
VALUES = {
    str: ANY_TEXT,
    str | None: st.none() | ANY_TEXT,
    int: st.integers(),
    int | None: st.none() | st.integers(),
}


def events_of(kind: Any) -> st.SearchStrategy[Any]:
    fields = {
        field.name: VALUES.get(field.type, st.lists(ANY_TEXT, max_size=3).map(tuple))
        for field in attrs.fields(kind)
    }
    return st.builds(kind, **fields)


EVENTS = st.one_of([events_of(kind) for kind in KINDS])


@given(EVENTS)
def test_round_trip(event: Event) -> None:
    """An event that was written is read as the same event, whatever its texts hold."""
    assert parse(json.loads(json.dumps(document(event)))) == event


@given(st.integers(1, 10**9), EVENTS)
def test_lines(number: int, event: Event) -> None:
    """An event's line is one line of ASCII without control characters; a program finds in it
    the event, its number and its time."""
    written = line(number, 1234.5, event)
    assert written.endswith(b"\n")
    assert all(32 <= byte < 127 for byte in written[:-1])
    made = json.loads(written)
    assert (made["id"], made["time"]) == (number, 1234.5)
    assert parse(made) == event


def test_types() -> None:
    """Types are words with hyphens, and every event has its own."""
    assert document(LogLine("x-1", "hello")) == {
        "type": "log-line",
        "derivation": "x-1",
        "line": "hello",
    }
    assert document(FetchesPlanned(1, 2, 3))["type"] == "fetches-planned"


@pytest.mark.parametrize("kind", KINDS)
def test_every_event_has_its_type(kind: Any) -> None:
    """The type of an event is its name, and so no other's."""

    @given(events_of(kind))
    def check(event: Event) -> None:
        assert document(event)["type"].replace("-", "") == kind.__name__.lower()

    check()


@pytest.mark.parametrize("character", ["a", "\0", "\udcff", "\U0001f600"])
def test_long_texts_are_cut(character: str) -> None:
    """A line of 10 MB takes some KiB, of which it says that it was cut, and keeps its beginning."""
    written = line(1, 0, LogLine("x-1", "begin " + character * 10_000_000))
    assert len(written) < 64 * 1024
    event = parse(json.loads(written))
    assert isinstance(event, LogLine)
    assert event.line.startswith("begin " + character)
    assert event.line.endswith("(10000006 characters, cut)")


def test_long_lists_are_cut() -> None:
    """A layer of very many store paths does not name them all, and says so."""
    written = line(1, 0, Packed("sha256:x", 1, 2, tuple(map(str, range(100_000)))))
    assert len(written) < 64 * 1024
    assert "more" in json.loads(written)["paths"][-1]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@given(JSON | st.fixed_dictionaries({"type": st.sampled_from(["done", "packed"])}) | JSON)
def test_nonsense_is_no_event(made: Any) -> None:
    """What is no event's document is refused as such."""
    with pytest.raises(ValueError, match="not an event"):
        parse(made)


@pytest.mark.parametrize(
    "made",
    [
        {"type": "done", "digest": 1},
        {"type": "asked", "waiting": True},
        {"type": "asked", "waiting": "1"},
        {"type": "packed", "digest": "x", "size": 1, "uncompressed": 2, "paths": ["a", 1]},
        {"type": ["done"]},
    ],
)
def test_fields_are_checked(made: Any) -> None:
    """A field that is missing or of another type makes no event."""
    with pytest.raises(ValueError, match="not an event"):
        parse(made)


def test_other_keys_are_passed_over() -> None:
    """What else a document holds harms nothing."""
    assert parse({"type": "skipped", "count": None, "id": 3, "time": 1.5}) == Skipped(None)
