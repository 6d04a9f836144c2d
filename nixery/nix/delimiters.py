"""The words of ``nix/realise.nix``: JSON between two marks, amid texts that others have a hand in.

Each run has a mark of its own, which nobody can know who is built or evaluated in it: Nix takes
what a builder prints for its own words when that begins with ``@nix ``.
"""

import json
import secrets
from typing import Any

PREFIX = "@nixery-"
"""What every mark begins with."""


def new_mark() -> str:
    """A mark that nobody can guess."""
    return f"{PREFIX}{secrets.token_hex(16)}@"


def marked(text: str, mark: str) -> list[dict[str, Any]]:
    """The documents in a text, which may be of any length."""
    documents = []
    for piece in text.split(mark)[1::2]:
        try:
            document = json.loads(piece)
        except (ValueError, RecursionError):  # a package set's own text that looks like ours
            continue
        if isinstance(document, dict):
            documents.append(document)
    return documents


def without_marked(text: str, mark: str) -> str:
    """A text without the documents in it."""
    return "".join(text.split(mark)[::2])


def fits(value: Any, shape: Any) -> bool:
    """Whether JSON has a form: of a type, a list of a form, an object with at least some keys."""
    match shape:
        case dict():
            return isinstance(value, dict) and all(
                key in value and fits(value[key], inner) for key, inner in shape.items()
            )
        case [inner]:
            return isinstance(value, list) and all(fits(each, inner) for each in value)
        case _:
            return isinstance(value, shape)
