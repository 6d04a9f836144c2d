"""Which store paths share a layer, so that images share layers.

Every path has an *anchor*: the most popular path among itself and all that refer to it, however
indirectly, in the image. References are closed, so wherever the anchor is, all of its *cluster*
is, and a cluster that becomes a layer is the same layer in many images. What is too small for a
layer of its own goes with others of like popularity.
"""

from collections.abc import Mapping, Sequence
from math import sqrt

import attrs

from nixery.model.closure import Graph, store_name

_BASE = frozenset(
    {
        "bash",
        "bash-interactive",
        "ca-certificates",
        "coreutils",
        "iana-etc",
        "moreutils",
        "nano",
        "netbase",
        "nss-cacert",
    }
)
"""Names of what comes with most images, as nixpkgs and Debian call them."""

_FIRST_THRESHOLD = 64 * 1024
_STEP = 2**0.25
_ALONE = 0.5
_TOGETHER = 0.8
_CLASSES = (6, 60, 600)
"""Parts of the highest popularity from which on small paths are mixed with their like."""


@attrs.frozen
class _Path:
    """A store path with what grouping needs to know of it.

    :param popularity: of itself.
    :param anchor: the name of its cluster: a rank, the most popular cluster first.
    """

    path: str
    size: int
    popularity: float
    anchor: int


def group_layers(
    graph: Graph, roots: Sequence[str], popularity: Mapping[str, int], budget: int
) -> list[list[str]]:
    """Group the store paths of an image into layers.

    :param graph: closed, acyclic, without self-references.
    :param roots: what the image was made for; the grouping follows from the graph alone.
    :param popularity: package name-version → direct reference count; without any, referrers
        inside the image are counted.
    :param budget: the most layers, at least 1.
    :return: layers, the lowest first, none empty; within a layer paths are sorted.
    """
    if not graph:
        return []
    counts = _popularities(graph, popularity)
    clusters = _clusters(graph, counts)
    layers = _fit(graph, counts, clusters, budget)
    layers = _spread(graph, layers, budget)
    anchors = {path: anchor for anchor, members in clusters.items() for path in members}
    return _ordered(graph, counts, anchors, layers)


def _name(path: str) -> str:
    """The package's name: what stands before the version."""
    parts = store_name(path).split("-")
    end = next((i for i, part in enumerate(parts) if part[:1].isdigit()), len(parts))
    return "-".join(parts[:end])


def _popularities(graph: Graph, table: Mapping[str, int]) -> dict[str, int]:
    if table:
        counts = {path: table.get(store_name(path), 1) for path in graph}
    else:
        counts = dict.fromkeys(graph, 1)
        for node in graph.values():
            for reference in node["references"]:
                counts[reference] += 1
    highest = max([*counts.values(), *table.values()]) if table else max(counts.values())
    return {path: 2 * highest if _name(path) in _BASE else n for path, n in counts.items()}


def _rank(path: str, counts: Mapping[str, int]) -> tuple[int, str, str]:
    """Sorts the most popular first; a store hash counts last of all."""
    return (-counts[path], store_name(path), path)


def _clusters(graph: Graph, counts: Mapping[str, int]) -> dict[str, list[str]]:
    """Anchor → its cluster."""
    rank = {path: _rank(path, counts) for path in graph}
    anchor: dict[str, str] = {}
    for path in sorted(graph, key=rank.__getitem__):
        # The most popular path takes all below it that no one before it took.
        todo = [path]
        while todo:
            here = todo.pop()
            if here not in anchor:
                anchor[here] = path
                todo += graph[here]["references"]
    clusters: dict[str, list[str]] = {}
    for path in sorted(anchor, key=rank.__getitem__):
        clusters.setdefault(anchor[path], []).append(path)
    return clusters


def _fit(
    graph: Graph, counts: Mapping[str, int], clusters: Mapping[str, list[str]], budget: int
) -> list[list[str]]:
    """Layers by the lowest threshold that keeps the budget."""
    threshold = float(_FIRST_THRESHOLD)
    total = sum(node["size"] for node in graph.values())
    while threshold < 2 * total + 2 * _FIRST_THRESHOLD:
        layers = _at_threshold(graph, counts, clusters, threshold, _CLASSES)
        if len(layers) <= budget:
            return layers
        threshold *= _STEP
    # Everything is mixed now: only fewer classes can help.
    for classes in (_CLASSES[:2], _CLASSES[:1], ()):
        layers = _at_threshold(graph, counts, clusters, threshold, classes)
        if len(layers) <= budget:
            return layers
    return [sorted(graph)]


def _at_threshold(
    graph: Graph,
    counts: Mapping[str, int],
    clusters: Mapping[str, list[str]],
    threshold: float,
    classes: Sequence[int],
) -> list[list[str]]:
    highest = max(counts.values())
    layers: list[list[str]] = []
    mixed: dict[int, list[str]] = {}
    for anchor, members in clusters.items():
        large = [p for p in members if _ALONE * graph[p]["size"] >= threshold]
        layers += [[path] for path in large]
        rest = [p for p in members if _ALONE * graph[p]["size"] < threshold]
        if not rest:
            continue
        if _TOGETHER * sum(graph[p]["size"] for p in rest) >= threshold:
            layers.append(rest)
        else:
            level = sum(counts[anchor] < highest / part for part in classes)
            mixed.setdefault(level, []).extend(rest)
    return layers + list(mixed.values())


def _spread(graph: Graph, layers: list[list[str]], budget: int) -> list[list[str]]:
    """While there is room, the largest paths of layers of several get layers of their own."""
    room = budget - len(layers)
    shared = sorted(
        (path for layer in layers if len(layer) > 1 for path in layer),
        key=lambda path: (-graph[path]["size"], store_name(path), path),
    )
    alone: set[str] = set()
    left = {path: len(layer) for layer in layers for path in layer}
    where = {path: number for number, layer in enumerate(layers) for path in layer}
    remaining = [len(layer) for layer in layers]
    for path in shared:
        if room == 0:
            break
        if remaining[where[path]] > 1:
            remaining[where[path]] -= 1
            alone.add(path)
            room -= 1
    del left
    kept = [[path for path in layer if path not in alone] for layer in layers]
    return kept + [[path] for path in sorted(alone)]


def _ordered(
    graph: Graph,
    counts: Mapping[str, int],
    anchors: Mapping[str, str],
    layers: list[list[str]],
) -> list[list[str]]:
    """Stable and large layers to the bottom: clients without a layer cache by digest load all
    that is above the first difference."""

    def key(layer: list[str]) -> tuple[float, list[str], list[str]]:
        size = sum(graph[path]["size"] for path in layer)
        least = min(counts[anchors[path]] for path in layer)
        return (-size * sqrt(least + 1), sorted(map(store_name, layer)), layer)

    return sorted((sorted(layer) for layer in layers), key=key)
