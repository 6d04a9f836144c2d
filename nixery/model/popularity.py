"""The popularity of packages within a set, by which layers are grouped."""

import json
from collections import Counter
from collections.abc import Mapping

from nixery.model.closure import Graph, store_name

Popularity = Mapping[str, int]
"""Package name-version → how many store paths refer to it directly."""


def count_references(graph: Graph) -> dict[str, int]:
    """Make the table of a graph, as the original's popcount does of a channel.

    Names that nothing or one thing refers to are left out: that is what a missing name means.
    """
    counts: Counter[str] = Counter()
    for node in graph.values():
        counts.update({store_name(reference) for reference in node["references"]})
    return {name: count for name, count in sorted(counts.items()) if count > 1}


def parse_popularity(content: bytes) -> dict[str, int]:
    """Read a table: a JSON object of names and counts.

    :raises ValueError: if it is anything else.
    """
    table = json.loads(content)
    if not isinstance(table, dict):
        raise ValueError("it is not a JSON object")
    for name, count in table.items():
        if not isinstance(count, int) or isinstance(count, bool) or count < 0:
            raise ValueError(f"the count of {name[:80]!r} is not a whole number")
    return table
