"""``nixery search``: the packages that images can be made of."""

import time

import click

from nixery.cli.client import Client
from nixery.cli.exits import NOT_FOUND, CommandFailed
from nixery.cli.output import Column, print_json, print_table
from nixery.cli.places import Place, as_json, with_place

_COLUMNS = (
    Column("NAME"),
    Column("VERSION", rank=1),
    Column("DESCRIPTION", rank=2, cut=True),
)
_PATIENCE = 600.0
"""Seconds to wait for an index that is being made: of nixpkgs, it takes minutes."""


@click.command
@click.argument("words", nargs=-1, required=True)
@click.option(
    "-n", "count", type=click.IntRange(1, 100), default=20, help="Maximum number of results."
)
@as_json
@with_place
def command(place: Place, words: tuple[str, ...], count: int, in_json: bool) -> None:
    """Search the package set by names, descriptions and programs."""
    client, query, until = Client(place), " ".join(words), time.monotonic() + _PATIENCE
    found = client.get("/packages", q=query, n=count)
    while not found["ready"] and time.monotonic() < until:
        time.sleep(2)
        found = client.get("/packages", q=query, n=count)
    if not found["ready"]:
        reason = found.get("fault") or "it is still being made"
        raise CommandFailed(f"there is no index of the package set: {reason}")
    if in_json:
        print_json(found)
    elif not found["packages"]:
        raise CommandFailed(f"no package of {found['source']} matches {query!r}", NOT_FOUND)
    else:
        print_table(
            _COLUMNS,
            [
                (p["name"] or p["attribute"], p["version"], p["description"])
                for p in found["packages"]
            ],
        )
