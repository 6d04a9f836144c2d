"""Tables that fit the terminal, sizes and ages."""

import sys

import pytest
from click import unstyle

from nixery.cli.output import Column, age_text, print_facts, print_table, size_text

COLUMNS = (
    Column("NAME", cut=True),
    Column("SIZE", right=True),
    Column("DIGEST", rank=2),
    Column("TAG", rank=1),
)
ROWS = [("shell/git/python3", "34 MB", "0123456789ab", "latest"), ("jq", "1 MB", "0" * 12, "1")]


def printed(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return unstyle(capsys.readouterr().out).splitlines()


def in_terminal(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", str(width))


def test_no_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no terminal, nothing is cut, left out or coloured."""
    monkeypatch.setenv("COLUMNS", "20")
    print_table(COLUMNS, ROWS)
    assert printed(capsys) == [
        "NAME                SIZE  DIGEST        TAG",
        "shell/git/python3  34 MB  0123456789ab  latest",
        "jq                  1 MB  000000000000  1",
    ]


@pytest.mark.parametrize("width", [8, 20, 30, 40, 80, 300])
def test_widths(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    """No line is wider than the terminal, down to what the least columns need."""
    in_terminal(monkeypatch, width)
    print_table(COLUMNS, ROWS)
    lines = printed(capsys)
    assert max(map(len, lines)) <= max(width, 15)
    assert ("DIGEST" in lines[0]) == (width >= 40)
    assert lines[1].startswith("shell/g")
    if width >= 80:
        assert lines[1].startswith("shell/git/python3")


def test_hostile_texts(capsys: pytest.CaptureFixture[str]) -> None:
    """What would move a terminal's cursor is shown without it."""
    print_table((Column("A"),), [("\x1b[2J\x1b]0;title\x07red\nline\u202e",)])
    print_facts([("a", "x\x1b[31m\u0007"), ("none", "")])
    text = capsys.readouterr().out
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "\u202e" not in text
    assert "none" not in text


def test_wide_letters(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Letters of two columns count as two."""
    in_terminal(monkeypatch, 12)
    print_table((Column("A", cut=True), Column("B")), [("漢字漢字漢字", "x")])
    assert printed(capsys)[1] == "漢字漢字…  x"


def test_an_empty_table(capsys: pytest.CaptureFixture[str]) -> None:
    """A table without rows has its titles."""
    print_table(COLUMNS, [])
    assert printed(capsys) == ["NAME  SIZE  DIGEST  TAG"]


@pytest.mark.parametrize(
    ("size", "text"),
    [
        *((0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (34_500_000, "34 MB"), (2e13, "20.0 TB")),
        *((999_499, "999 kB"), (999_600, "1.0 MB")),
    ],
)
def test_sizes(size: float, text: str) -> None:
    """Sizes have two digits or three, and the unit that fits."""
    assert size_text(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(5, "5 s ago"), (150, "2 min ago"), (7200, "2 h ago"), (1e6, "11 d ago"), (-5, "0 s ago")],
)
def test_ages(seconds: float, text: str) -> None:
    """Ages are in the unit of which there are two at least; what never was has none."""
    assert age_text(1000.0, 1000.0 + seconds) == text
    assert age_text(0) == "never"
