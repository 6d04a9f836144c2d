"""The registry's error document."""

import json
from typing import Any


def error_document(code: str, message: str, detail: Any = None) -> bytes:
    """The registry's error document.

    Clients print the detail as well (crane does), so it holds nothing that a terminal would obey.
    """
    error = {"code": code, "message": printable(message), "detail": _printable_within(detail)}
    return json.dumps({"errors": [error]}).encode("ascii")


def printable(text: str) -> str:
    """A text without what a terminal would obey: line ends and tabs stay."""
    return "".join(
        c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text
    )


def _printable_within(detail: Any) -> Any:
    match detail:
        case str():
            return printable(detail)
        case dict():
            return {name: _printable_within(value) for name, value in detail.items()}
        case list() | tuple():
            return [_printable_within(value) for value in detail]
        case _:
            return detail
