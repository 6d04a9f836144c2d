"""Long lists, of which a client gets a page at a time."""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, TypeVar

from nixery.http.fair import FairTurns
from nixery.http.request import RegistryRequest

T = TypeVar("T")

_NUMBER = re.compile("[0-9]{1,15}")


def length_of(request: RegistryRequest, usual: int, most: int) -> int:
    """How many entries a client asks for, by ``n``.

    :param usual: if it does not say, or says something else than a number.
    """
    number = request.parameter("n")
    return min(int(number), most) if _NUMBER.fullmatch(number) else usual


def tell_next(request: RegistryRequest, address: str) -> None:
    """Tell a client where the next page is: https://www.rfc-editor.org/rfc/rfc8288."""
    request.setHeader(b"Link", f'<{address}>; rel="next"'.encode("ascii"))


async def page_of(
    request: RegistryRequest,
    turns: FairTurns,
    entries: Iterator[T],
    fits: Callable[[T], bool],
    length: int,
    at_once: int,
) -> tuple[list[T], bool]:
    """The first entries that fit.

    :param turns: at looking through the entries.
    :param at_once: entries that are looked at in one turn.
    :return: as many as the page has, and whether there are more.
    """
    found = list[T]()
    while len(found) <= length:
        async with turns.turn(request.network):
            looked_at = list(islice(entries, at_once))
            found += filter(fits, looked_at)
        if len(looked_at) < at_once:
            break
    return found[:length], len(found) > length


def json_array(documents: Iterable[Any]) -> Iterator[bytes]:
    """A JSON array in pieces, each of which is made when it is sent."""
    yield b"["
    for number, document in enumerate(documents):
        line = json.dumps(document).encode("ascii")
        yield b", " + line if number else line
    yield b"]"
