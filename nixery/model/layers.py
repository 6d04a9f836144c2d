"""Which store paths share a layer."""

from collections.abc import Mapping, Sequence

from nixery.model.closure import Graph


def group_layers(
    graph: Graph, roots: Sequence[str], popularity: Mapping[str, int], budget: int
) -> list[list[str]]:
    order = sorted(graph, key=lambda p: (-graph[p]["size"], p[44:], p))
    layers = [[p] for p in order[: budget - 1]]
    if len(order) >= budget:
        layers.append(sorted(order[budget - 1 :]))
    return layers
