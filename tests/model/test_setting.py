"""How settings are declared, and their text read."""

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nixery.model.setting import (
    absolute,
    header_url,
    header_word,
    matching,
    number,
    one_of,
    setting,
    settings_of,
    size,
    switch,
)


@attrs.frozen
class Group:
    """Some settings, and a field that is none.

    :param limit: Most of something,
        whatever it is.
    :param other: not for operators.
    :param name: Any name: as it is.
    """

    limit: int = setting("NIXERY_SOME_LIMIT=5", number(1, 9))
    other: int = 7
    name: str = setting("NAME", unset="nobody", alias="NAME_TOO")


def read(**environ: str) -> tuple[dict[str, object], list[str]]:
    """The values that the environment gives to the group, and the faults."""
    faults: list[str] = []
    declared = settings_of(Group)
    return {name: one.value(environ, faults) for name, one in declared.items()}, faults


def test_a_declaration() -> None:
    """A field says all of a setting: variable, option, default, and help in the docstring."""
    limit, name = settings_of(Group).values()
    assert (limit.variable, limit.option, limit.default) == ("NIXERY_SOME_LIMIT", "some-limit", "5")
    assert (limit.help, name.help) == ("Most of something, whatever it is.", "Any name: as it is.")
    assert Group() == Group(limit=5, other=7, name="nobody")


def test_values() -> None:
    """A variable counts before its alias, and that before the default; empty is not set."""
    assert read() == ({"limit": 5, "name": "nobody"}, [])
    assert read(NIXERY_SOME_LIMIT="9", NAME_TOO="b") == ({"limit": 9, "name": "b"}, [])
    assert read(NIXERY_SOME_LIMIT="", NAME="a", NAME_TOO="b") == ({"limit": 5, "name": "a"}, [])


def test_faults() -> None:
    """A text that can't be used is a sentence with the variable, the text and what is expected."""
    _, faults = read(NIXERY_SOME_LIMIT="10")
    assert faults == ["NIXERY_SOME_LIMIT is '10'; it must be a whole number from 1 to 9"]


def test_keys_are_not_told() -> None:
    """A private key that stands where something else is meant is in no message."""
    _, faults = read(NIXERY_SOME_LIMIT="-----BEGIN EC PRIVATE KEY-----\nMHcC")
    assert faults == ["NIXERY_SOME_LIMIT is a private key; it must be a whole number from 1 to 9"]


@given(st.integers(0, 999_999_998))
def test_numbers(value: int) -> None:
    """Every number in the range is read as it is, and scaled where that is asked for."""
    assert number(0, 999_999_999)(str(value)) == value
    assert number(0, 999_999_999, float, scale=60)(f"{value}.5") == (value + 0.5) * 60


@given(st.integers(1, 999_999_999), st.sampled_from(["", "K", "M", "G", "T"]))
def test_sizes(value: int, unit: str) -> None:
    """Sizes are decimal: 1K is a thousand bytes."""
    assert size(1)(f"{value}{unit}") == value * 1000 ** ["", "K", "M", "G", "T"].index(unit)


@pytest.mark.parametrize("text", ["0", "5k", "5 M", "-5", "1.5G", "", "5MB"])
def test_sizes_that_are_refused(text: str) -> None:
    """Other units, signs and fractions are no sizes."""
    with pytest.raises(ValueError, match="at least 1"):
        size(1)(text)


def test_words() -> None:
    """Words are taken as they are written, and the fault lists them."""
    assert [switch("on"), switch("off")] == [True, False]
    assert one_of("a", "b")("b") == "b"
    with pytest.raises(ValueError, match=r"^a or b$"):
        one_of("a", "b")("A")


@given(st.text())
def test_forms(text: str) -> None:
    """A text is taken if all of it has the form, and is not changed."""
    for read_text, fits in (
        (absolute, text.startswith("/")),
        (matching("[ab]+", "a's and b's"), bool(text) and set(text) <= {"a", "b"}),
    ):
        if fits:
            assert read_text(text) == text
        else:
            with pytest.raises(ValueError, match=r"path|a's"):
                read_text(text)


@given(st.text(min_size=1))
def test_fit_for_headers(text: str) -> None:
    """What is put between quotes in a header holds no quote, backslash, space or control
    character."""
    for read_text, written in ((header_word, text), (header_url, f"https://{text}")):
        try:
            taken = read_text(written)
        except ValueError:
            continue
        assert taken.isascii()
        assert taken.isprintable()
        assert not set(' "\\') & set(taken)
