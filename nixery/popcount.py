"""``nixery-popcount``: the popularity table of the configured package set.

It evaluates the set and counts, among those of its packages that are in the Nix store, and all
that they refer to, how many refer to each. The more of the set was built or fetched, the better
the table. Packages that can't be evaluated are left out and listed. Serve the table, or keep it in
a file, and set ``NIX_POPULARITY_URL`` to its URL.
"""

import json
import os
import sys
from typing import Any

from twisted.internet.task import react

from nixery.model.errors import NixeryError
from nixery.model.popularity import count_references
from nixery.model.tags import LATEST
from nixery.nix_parts import NixParts
from nixery.search.lister import Indexer, ListingLimits
from nixery.settings import Settings, SettingsInvalid

# All derivations are evaluated: that takes far longer than a list of their names.
_LIMITS = ListingLimits(runs=1000, seconds=6 * 3600)


async def count(reactor: Any, settings: Settings) -> dict[str, int]:
    """Make the table of a package set.

    :raises NixeryError: if the set can't be found, or Nix fails.
    """
    parts = NixParts(reactor, settings, os.environ)
    await parts.evaluator.start()
    pinned = await parts.resolver.resolve(LATEST)
    indexer = Indexer(
        reactor,
        parts.processes,
        parts.commands,
        parts.sources,
        parts.evaluator,
        _LIMITS,
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
    print(text, file=sys.stderr)


async def _print_table(reactor: Any) -> None:
    try:
        table = await count(reactor, Settings.from_environ(os.environ))
    except (NixeryError, SettingsInvalid) as error:
        raise SystemExit(f"nixery-popcount: {error}") from None
    json.dump(table, sys.stdout, indent=0, sort_keys=True)
    print()


def main() -> None:
    """Print the table as JSON."""
    if len(sys.argv) > 1:
        print((__doc__ or "").strip())
        print("\nIt takes no options; settings come from the environment as the daemon's do.")
        raise SystemExit(0 if sys.argv[1] in ("-h", "--help") else 2)
    react(_print_table)
