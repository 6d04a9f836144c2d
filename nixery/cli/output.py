"""What commands print: tables that fit the terminal, sizes and ages for people, JSON."""

import json
import shutil
import sys
import time
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

import attrs
import click

from nixery.model.text import readable

_GAP = "  "
_LEAST = 8
"""Characters that a cut column keeps."""


@attrs.frozen
class Column:
    """A column of a table.

    :param rank: columns of higher rank are left out first where the terminal is narrow; those of
        rank 0 never.
    :param right: whether its texts stand at the right.
    :param cut: whether its texts may be cut.
    """

    title: str
    rank: int = 0
    right: bool = False
    cut: bool = False


def print_table(columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> None:
    """Print a table: as wide as the terminal is, or as it needs where there is none."""
    table = [[readable(text) for text in row] for row in rows]
    widths = [
        max([len(column.title), *(_width(row[at]) for row in table)])
        for at, column in enumerate(columns)
    ]
    shown = list(range(len(columns)))
    if sys.stdout.isatty():
        shown = _fit(columns, widths, shutil.get_terminal_size().columns)
    lines = [[column.title for column in columns], *table]
    for number, row in enumerate(lines):
        cells = [_cell(row[at], widths[at], columns[at].right) for at in shown]
        line = _GAP.join(cells).rstrip()
        click.echo(click.style(line, bold=True) if number == 0 else line)


def _fit(columns: Sequence[Column], widths: list[int], room: int) -> list[int]:
    """Choose the columns that there is room for, and cut the width of others."""
    shown = list(range(len(columns)))

    def excess() -> int:
        return sum(widths[at] for at in shown) + len(_GAP) * (len(shown) - 1) - room

    def least() -> int:
        return excess() - sum(max(0, widths[at] - _LEAST) for at in shown if columns[at].cut)

    for at in sorted(shown, key=lambda at: columns[at].rank, reverse=True):
        if columns[at].rank and least() > 0:
            shown.remove(at)
    for at in sorted(shown, key=lambda at: widths[at], reverse=True):
        if columns[at].cut and excess() > 0:
            widths[at] = max(_LEAST, widths[at] - excess())
    return shown


def _cell(text: str, width: int, right: bool) -> str:
    if _width(text) > width:
        while _width(text) >= width:
            text = text[:-1]
        text = f"{text}…"
    space = " " * (width - _width(text))
    return space + text if right else text + space


def _width(text: str) -> int:
    """How many places a text takes in a terminal."""
    if text.isascii():
        return len(text)
    return sum(1 + (unicodedata.east_asian_width(letter) in "WF") for letter in text)


def print_facts(facts: Sequence[tuple[str, str]]) -> None:
    """Print names with their values, one below the other; what is empty is left out."""
    known = [(name, readable(value)) for name, value in facts if value]
    width = max((len(name) for name, _ in known), default=0)
    for name, value in known:
        click.echo(f"{click.style(name.ljust(width), bold=True)}{_GAP}{value}")


def print_json(document: Any) -> None:
    """Print a document for programs."""
    click.echo(json.dumps(document, indent=2))


def size_text(size: float) -> str:
    """A number of bytes for people."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 999.5:  # else it is rounded to 1000
            return f"{size:.0f} {unit}" if unit == "B" or size >= 10 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def age_text(then: float, now: float | None = None) -> str:
    """How long ago something was, for people.

    :param then: seconds since the epoch; 0 for never.
    """
    if not then:
        return "never"
    seconds = max(0.0, (time.time() if now is None else now) - then)
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"


def date_text(then: float) -> str:
    """A time, in this machine's time zone; empty for 0."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(then)) if then else ""
