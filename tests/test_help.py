"""``--help``."""

import pytest

from nixery.help import usage
from nixery.settings import CHAPTERS, SETTINGS


def test_all_options_in_chapters() -> None:
    """Every option is there once, below its chapter, in one order."""
    lines = usage(80).splitlines()
    found = [line.strip() for line in lines if line.startswith("  --")]
    ends = ["--check", "--version", "--help"]
    assert found == [*(f"--{variable.option}=" for variable in SETTINGS), *ends]
    titles = [line.removesuffix(":") for line in lines if line.endswith(":") and line[0] != " "]
    assert titles == [*CHAPTERS, "Instead of a start"]


@pytest.mark.parametrize("width", [1, 60, 200])
def test_width(width: int) -> None:
    """No line is wider than the terminal, unless a word is, or it is narrower than text can be."""
    for line in usage(width).splitlines():
        assert len(line) <= max(width, 40) or len(line.split()) == 1


def test_each_text_stands_alone() -> None:
    """No text leans on the one before it."""
    leaning = (
        "That ",
        "this certificate",
        "that certificate",
        "the same way",
        "Its ",
        "its tokens",
    )
    for variable in SETTINGS:
        assert not any(words in variable.help for words in leaning), variable.variable
        assert variable.help[0].isupper()
        assert variable.help.endswith(".")
