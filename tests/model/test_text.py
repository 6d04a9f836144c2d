"""Texts for people to read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nixery.model.text import cut, plain, readable


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


@given(st.text(max_size=60), st.integers(1, 30))
def test_cut(text: str, most: int) -> None:
    """What is cut is no longer than asked for, begins as the text does, and says that it was
    cut."""
    short = cut(text, most)
    assert len(short) <= most
    assert short == text or (short.endswith("…") and text.startswith(short[:-1]))
    assert (short == text) == (len(text) <= most)


@given(st.lists(st.sampled_from(["a", "see", "http://localhost:8080/builds/01982f3c6d5a1b2c"])))
def test_no_address_is_cut(words: list[str]) -> None:
    """Whatever the length, an address is there whole or not at all, unless there is nothing
    else."""
    text = "look " + " ".join(words)
    for most in range(6, len(text) + 1):
        assert set(cut(text, most).removesuffix("…").split()) <= {*words, "look"}
