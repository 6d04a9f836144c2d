"""Writes the help of each command into docs/command.md: ``python docs/command.py PAGE``."""

import re
import sys
from pathlib import Path

import click

from nixery.cli.main import NAMES, nixery

_WIDTH = 80
_OF_TWISTD = ("serve", "check")
"""Their options are in docs/settings.md."""


def help_of(name: str) -> str:
    """What ``nixery NAME --help`` prints."""
    parent = click.Context(nixery, info_name="nixery", terminal_width=_WIDTH)
    command = nixery.get_command(parent, name)
    assert command is not None
    context = click.Context(
        command, parent=parent, info_name=name, terminal_width=_WIDTH, max_content_width=_WIDTH
    )
    context.help_option_names = ["--help", "-h"]
    return command.get_help(context)


def with_help(page: str) -> str:
    """The page, with the help of each command in the block below its heading.

    :raises ValueError: if a command has no heading, or no block below it.
    """
    for name in NAMES:
        if name in _OF_TWISTD:
            continue
        place = re.compile(rf"(?<=^### nixery {name}\n\n```text\n)(?:(?!```).*\n)*", re.MULTILINE)
        text = f"{help_of(name)}\n".replace("\\", r"\\")
        page, found = place.subn(text, page)
        if found != 1:
            raise ValueError(f"the page has no block below the heading 'nixery {name}'")
    return page


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(with_help(path.read_text("utf-8")), "utf-8")
