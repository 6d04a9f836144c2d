"""Lists of which clients get pages."""

import json
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from nixery.http.fair import FairTurns
from nixery.http.paging import json_array, length_of, page_of


def asking(number: str = "") -> Any:
    """A request with the parameter ``n``."""
    return SimpleNamespace(network="192.0.2.1", parameter=lambda name: number)


@pytest.mark.parametrize(
    ("said", "length"),
    [("", 10), ("0", 0), ("7", 7), ("99", 50), ("9" * 15, 50), ("9" * 5000, 10), ("-1", 10)],
)
def test_lengths(said: str, length: int) -> None:
    """A page has as many entries as are asked for, within a bound; what is no number counts as
    nothing."""
    assert length_of(asking(said), 10, 50) == length


@given(st.lists(st.integers(0, 9)), st.integers(0, 8), st.integers(1, 5))
def test_pages(entries: list[int], length: int, at_once: int) -> None:
    """A page has the first entries that fit, however many are looked at in a turn, and says whether
    there are others."""
    clock = Clock()
    turns = FairTurns(clock)
    asked = page_of(asking(), turns, iter(entries), lambda each: each > 4, length, at_once)
    reading = Deferred.fromCoroutine(asked)
    clock.pump([0] * (len(entries) + 2))
    fitting = [each for each in entries if each > 4]
    assert reading.result == (fitting[:length], len(fitting) > length)


@pytest.mark.parametrize("documents", [[], [{"a": 1}], [1, None, "\N{SNOWMAN}"]])
def test_arrays(documents: list[Any]) -> None:
    """The pieces together are the JSON of all documents, in ASCII."""
    pieces = list(json_array(documents))
    assert json.loads(b"".join(pieces).decode("ascii")) == documents
    assert len(pieces) == len(documents) + 2
