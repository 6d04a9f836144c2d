"""``nixery popcount``: the popularity table of the configured package set."""

import json
import os
from typing import Any

import click

from nixery.cli.exits import FAILED


@click.command
def command() -> None:
    """Print the package set's popularity table.

    The set is evaluated, and among those of its packages that are in the Nix store, and all that
    they refer to, it is counted how many refer to each. The more of the set was built or fetched,
    the better the table. Packages that can't be evaluated are left out and listed. Serve the table,
    or keep it in a file, and set NIX_POPULARITY_URL to its URL.

    Settings come from the environment, as the daemon's do.
    """
    from twisted.internet.task import react

    react(_print_table)


async def _print_table(reactor: Any) -> None:
    from nixery.model.errors import NixeryError
    from nixery.settings import Settings, SettingsInvalid

    try:
        table = await _count(reactor, Settings.from_environ(os.environ))
    except (NixeryError, SettingsInvalid) as error:
        _say(f"nixery: {error}")
        raise SystemExit(FAILED) from None  # of others, react() prints a traceback
    click.echo(json.dumps(table, indent=0, sort_keys=True))


async def _count(reactor: Any, settings: Any) -> dict[str, int]:
    """Make the table of a package set.

    :raises NixeryError: if the set can't be found, or Nix fails.
    """
    from nixery.model.popularity import count_references
    from nixery.model.tags import LATEST
    from nixery.nix_parts import NixParts
    from nixery.search.lister import Indexer, ListingLimits

    # All derivations are evaluated: that takes far longer than a list of their names.
    limits = ListingLimits(runs=1000, seconds=6 * 3600)
    parts = NixParts(reactor, settings, os.environ)
    await parts.evaluator.start()
    pinned = await parts.resolver.resolve(LATEST)
    indexer = Indexer(
        *(reactor, parts.processes, parts.commands, parts.sources, parts.evaluator, limits),
        settings.systems[0],
    )
    found = await indexer.outputs(pinned)
    there = await parts.commands.valid(found.paths)
    _say(f"{len(there)} of the set's {len(found.paths)} outputs are in the store")
    if found.skipped:
        _say(f"left out, since they can't be evaluated: {', '.join(found.skipped)}")
    if not found.whole:
        _say("the end of the set was not reached: the table is of a part of it")
    return count_references(await parts.commands.closure(there))


def _say(text: str) -> None:
    click.echo(text, err=True)
