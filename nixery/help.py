"""The settings for people to read: ``--help``, and the tables of docs/settings.md.

``python -m nixery.help PAGE`` writes the tables anew.
"""

import re
import sys
import textwrap
from pathlib import Path

from nixery.model.setting import Setting
from nixery.settings import CHAPTERS

_INDENT = " " * 6
_ENDS = (
    ("--check", "Check the settings and all that a start needs, print what would run, and stop."),
    ("--version", "Print the version, and stop."),
    ("--help", "Print this, and stop."),
)


def usage(width: int) -> str:
    """The options, those of one chapter below its title.

    :param width: characters of a line.
    """
    parts = [
        _wrapped(
            "Every option may be given as the environment variable in brackets instead; where both "
            "are, the option counts.",
            width,
        )
    ]
    for title, settings in CHAPTERS.items():
        parts += ["", f"{title}:"]
        parts += [_option(f"--{each.option}=", text_of(each), width) for each in settings]
    parts += ["", "Instead of a start:", *(_option(name, text, width) for name, text in _ENDS)]
    return "\n".join(parts) + "\n"


def text_of(setting: Setting) -> str:
    """The help text of a setting, with its variable and default."""
    default = f" [default: {setting.default}]" if setting.default else ""
    return f"{setting.help} (${setting.variable}){default}"


def with_tables(page: str) -> str:
    """A Markdown page, with the table of each chapter below its heading, in place of any table
    there.

    :raises ValueError: if a chapter has no heading, or no table below it.
    """
    for title, settings in CHAPTERS.items():
        rows = [
            f"| `{each.variable}` | {each.help}{f' ({each.default})' if each.default else ''} |"
            for each in settings
        ]
        table = "\n".join(["| variable | meaning (default) |", "|---|---|", *rows, ""])
        place = re.compile(rf"(?<=^## {re.escape(title)}\n\n)(\|.*\n)+", re.MULTILINE)
        page, found = place.subn(table.replace("\\", r"\\"), page)
        if found != 1:
            raise ValueError(f"the page has no table below the heading {title!r}")
    return page


def _option(name: str, text: str, width: int) -> str:
    return f"  {name}\n{_wrapped(text, width, _INDENT)}"


def _wrapped(text: str, width: int, indent: str = "") -> str:
    return textwrap.fill(
        text,
        max(width, 40),
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


if __name__ == "__main__":
    for path in map(Path, sys.argv[1:]):
        path.write_text(with_tables(path.read_text("utf-8")), "utf-8")
