"""The README's commands, as readers paste them."""

import re
from pathlib import Path

import attrs

TOP = Path(__file__).resolve().parents[1]


@attrs.frozen
class Command:
    """A line that a reader types.

    :param section: the heading that it stands below.
    :param output: the lines that follow it.
    """

    section: str
    text: str
    output: str


def commands() -> list[Command]:
    """All of them, in order."""
    text = (TOP / "README.md").read_text("utf-8")
    found = []
    for section in re.split(r"^## ", text, flags=re.MULTILINE):
        title = section.partition("\n")[0]
        for block in re.findall(r"^```console\n(.*?)^```", section, re.MULTILINE | re.DOTALL):
            assert block.startswith("$ "), block
            for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
                line, _, output = part.partition("\n")
                found.append(Command(title, line, output.strip()))
    return found
