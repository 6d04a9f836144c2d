"""Which store paths share a layer, so that images share layers.

Every path has an *anchor*: the most popular path among itself and all that refer to it, however
indirectly, in the image. References are closed, so wherever the anchor is, all of its *cluster*
is, and a cluster that is a layer is the same layer in many images. Large paths are layers of
their own; what is too small for a layer goes with others whose anchors are about as popular.
``benchmarks/layering.md`` has what else was tried.
"""

from collections.abc import Mapping, Sequence
from math import log2, sqrt

import attrs

from nixery.model.closure import Graph, store_name

_BASE = frozenset(
    {
        *("bash", "bash-interactive", "coreutils", "moreutils", "nano"),
        *("nss-cacert", "iana-etc", "ca-certificates", "netbase"),
    }
)
"""Names of what comes with most images, as nixpkgs and Debian call them."""

_ALONE = 0.5
_TOGETHER = 0.65
"""What a byte counts against the threshold, in a path by itself and in a cluster: a layer of one
path is lost when that path changes, a cluster's when any of it does; but a cluster is shared by
all images with its anchor, where a path of its own is one more layer."""
_CLASSES = (6, 60, 600)
"""Parts of the highest popularity: anchors above the same ones of them are about as popular."""
_LOWEST = 16  # thresholds are powers of 2 ** (1 / _STEPS) from 2 ** _LOWEST bytes on
_STEPS = 4

Layers = list[list[str]]


@attrs.frozen
class _Cluster:
    """The paths with one anchor.

    :param level: how rare the anchor is: 0 for the most popular.
    :param members: largest first.
    """

    level: int
    members: tuple[str, ...]


def group_layers(
    graph: Graph, roots: Sequence[str], popularity: Mapping[str, int], budget: int
) -> Layers:
    """Group the store paths of an image into layers.

    :param graph: closed, acyclic, without self-references.
    :param roots: what the image was made for; the grouping follows from the graph alone.
    :param popularity: package name-version → direct reference count; without any, referrers
        inside the image are counted.
    :param budget: the most layers, at least 1.
    :return: layers, the lowest first, none empty.
    """
    counts = _popularities(graph, popularity)
    # Names before paths: no store hash decides anything but between two of the same name.
    rank = {path: (-counts[path], store_name(path), path) for path in graph}
    anchors = _anchors(graph, sorted(graph, key=rank.__getitem__))
    if len(graph) <= budget:
        layers = [[path] for path in graph]
    else:
        clusters = _clusters(graph, counts, anchors)
        layers = _fit(graph, clusters, budget)
    return _ordered(graph, counts, anchors, layers)


def _popularities(graph: Graph, table: Mapping[str, int]) -> dict[str, int]:
    if table:
        counts = {path: table.get(store_name(path), 1) for path in graph}
    else:
        counts = dict.fromkeys(graph, 1)
        for node in graph.values():
            for reference in node["references"]:
                counts[reference] += 1
    highest = max((table or counts).values(), default=1)
    return {path: 2 * highest if _name(path) in _BASE else n for path, n in counts.items()}


def _name(path: str) -> str:
    """The package's name: what stands before the version."""
    words = store_name(path).split("-")
    end = next((i for i, word in enumerate(words) if word[:1].isdigit()), len(words))
    return "-".join(words[:end])


def _anchors(graph: Graph, ranked: Sequence[str]) -> dict[str, str]:
    """Path → its anchor.

    :param ranked: all paths, the most popular first: each takes all below it that none before
        it took.
    """
    anchors: dict[str, str] = {}
    for anchor in ranked:
        todo = [anchor]
        while todo:
            path = todo.pop()
            if path not in anchors:
                anchors[path] = anchor
                todo += graph[path]["references"]
    return anchors


def _clusters(
    graph: Graph, counts: Mapping[str, int], anchors: Mapping[str, str]
) -> list[_Cluster]:
    highest = max(counts.values())
    members: dict[str, list[str]] = {}
    for path in sorted(graph, key=lambda path: _by_size(graph, path)):
        members.setdefault(anchors[path], []).append(path)
    return [
        _Cluster(sum(counts[anchor] * part < highest for part in _CLASSES), tuple(paths))
        for anchor, paths in members.items()
    ]


def _by_size(graph: Graph, path: str) -> tuple[int, str, str]:
    """Sorts the largest first."""
    return (-graph[path]["size"], store_name(path), path)


def _fit(graph: Graph, clusters: Sequence[_Cluster], budget: int) -> Layers:
    """Layers by the lowest threshold that keeps the budget."""
    sizes = sorted((node["size"] for node in graph.values()), reverse=True)
    # Below this, the paths that are layers of their own are too many already.
    step = max(0, int(_STEPS * (log2(max(1, _ALONE * sizes[budget])) - _LOWEST)))
    last = int(_STEPS * (log2(max(1, sum(sizes))) - _LOWEST)) + 2
    while True:
        own, mixed = _divide(graph, clusters, 2 ** (_LOWEST + step / _STEPS))
        if len(own) + len(mixed) <= budget:
            return _spread(graph, own, mixed, budget)
        if step > last:  # nothing is left but mixed layers, and they are too many
            return [[path for layer in (*own, *mixed) for path in layer]]
        step += 1


def _divide(graph: Graph, clusters: Sequence[_Cluster], threshold: float) -> tuple[Layers, Layers]:
    """Layers that paths and clusters have for themselves, and those of the mixed rest."""
    own: Layers = []
    mixed: dict[int, list[str]] = {}
    for cluster in clusters:
        rest = [p for p in cluster.members if _ALONE * graph[p]["size"] < threshold]
        own += [[path] for path in cluster.members[: len(cluster.members) - len(rest)]]
        if not rest:
            continue
        if _TOGETHER * sum(graph[path]["size"] for path in rest) >= threshold:
            own.append(rest)
        else:
            mixed.setdefault(cluster.level, []).extend(rest)
    return own, list(mixed.values())


def _spread(graph: Graph, own: Layers, mixed: Layers, budget: int) -> Layers:
    """Use the layers that are left for the largest paths of the mixed ones."""
    room = budget - len(own) - len(mixed)
    largest = sorted((p for layer in mixed for p in layer), key=lambda p: _by_size(graph, p))
    alone = set(largest[:room])
    rest = [[path for path in layer if path not in alone] for layer in mixed]
    return [*own, *(layer for layer in rest if layer), *([path] for path in alone)]


def _ordered(
    graph: Graph, counts: Mapping[str, int], anchors: Mapping[str, str], layers: Layers
) -> Layers:
    """Large and stable layers to the bottom: clients without a layer cache by digest load all
    that is above the first difference."""

    def key(layer: list[str]) -> tuple[float, list[tuple[str, str]]]:
        size = sum(graph[path]["size"] for path in layer)
        least = min(counts[anchors[path]] for path in layer)
        return (-size * sqrt(least + 1), sorted((store_name(path), path) for path in layer))

    return sorted((sorted(layer) for layer in layers), key=key)
