"""Pages in docs/ that are worked examples, as readers copy them."""

import re
from collections.abc import Mapping
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"


def blocks(page: str, language: str) -> list[str]:
    """What a page has in blocks of a language.

    :param page: its name below docs/, without the ending.
    """
    text = (DOCS / f"{page}.md").read_text("utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def typed(page: str) -> list[str]:
    """The commands that a page has its readers type."""
    lines = "".join(blocks(page, "console")).splitlines()
    return [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]


def settings(page: str) -> dict[str, str]:
    """The variables that a page has its readers set."""
    return dict(re.findall(r"^(\w+)=(.+)$", "".join(blocks(page, "sh")), re.MULTILINE))


def moved(text: str, places: Mapping[str, object]) -> str:
    """A text with the places of a test, all of which must occur in it."""
    for here, there in places.items():
        assert here in text, here
        text = text.replace(here, str(there))
    return text
