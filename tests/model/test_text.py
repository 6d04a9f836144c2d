"""Texts for people to read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nixery.model.text import plain, readable


def test_escapes_are_taken_out() -> None:
    """Colours, titles and other terminal commands are no part of a text."""
    assert (
        plain("\x1b[31;1merror:\x1b[0m a\x1b]0;title\x07b\x1b]8;;x\x1b\\c\x1b(d") == "error: abcd"
    )


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("10 %\r50 %\r100 %", "100 %"),
        ("a line\r", "a line"),
        ("a\tb", "a\tb"),
        ("\x1b[2Jnothing \x07rings", "nothing \N{REPLACEMENT CHARACTER}rings"),
        ("\u202egnp.exe\udcff", "\N{REPLACEMENT CHARACTER}gnp.exe\N{REPLACEMENT CHARACTER}"),
    ],
)
def test_readable(text: str, shown: str) -> None:
    """A line is what a terminal would show in the end, without what it would obey."""
    assert readable(text) == shown


@given(st.text(st.characters()))
def test_nothing_to_obey(text: str) -> None:
    """Whatever a package prints, no control character is left of it."""
    assert readable(text).replace("\t", "").isprintable()
