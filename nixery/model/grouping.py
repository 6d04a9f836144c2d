"""The grouping of store paths into layers, such that images share layers.

Every path has an *anchor*: the most popular path among itself and all that refer to it, however
indirectly, in the image. References are closed, so wherever the anchor is, all of its *cluster*
is, and a cluster that is a layer is the same layer in many images. Large paths are layers of
their own; what is too small for a layer goes with others whose anchors are about as popular.
``benchmarks/layering.md`` has what else was tried.
"""

from bisect import bisect_left
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
_TOGETHER = 0.8
"""What a byte counts against the threshold, in a path by itself and in a cluster: a layer of one
path is lost when that path changes, a cluster's when any of it does; but a cluster is shared by
all images with its anchor, where a path of its own is one more layer."""
_CLASSES = (6, 60, 600)
"""Parts of the highest popularity: anchors above the same ones of them are about as popular."""
_LOWEST = 16  # the lowest threshold is 2 ** 16 bytes

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
    """Layers by the lowest thresholds that keep the budget.

    Thresholds are an octave apart, so that most images have the same one, and with it the same
    layers; the largest clusters have the next lower one, as far as the budget goes.
    """
    sizes = sorted((node["size"] for node in graph.values()), reverse=True)
    # Below this, the paths that are layers of their own are too many already.
    octave = max(_LOWEST, int(log2(max(1, _ALONE * sizes[budget]))))
    highest = int(log2(max(1, sum(sizes)))) + 2
    while not _fits(graph, clusters, [2.0**octave] * len(clusters), budget):
        if octave > highest:  # nothing is left but mixed layers, and they are too many
            return [list(graph)]
        octave += 1
    largest = sorted(
        clusters, key=lambda c: (-_size(graph, c.members), _by_size(graph, c.members[0]))
    )

    def thresholds(lower: int) -> list[float]:
        return [2.0 ** (octave - (number < lower)) for number in range(len(largest))]

    lower = bisect_left(
        range(1, len(largest) + 1),
        True,
        key=lambda count: not _fits(graph, largest, thresholds(count), budget),
    )
    return _spread(graph, *_divide(graph, largest, thresholds(lower)), budget)


def _fits(
    graph: Graph, clusters: Sequence[_Cluster], thresholds: Sequence[float], budget: int
) -> bool:
    own, mixed = _divide(graph, clusters, thresholds)
    return len(own) + len(mixed) <= budget


def _divide(
    graph: Graph, clusters: Sequence[_Cluster], thresholds: Sequence[float]
) -> tuple[Layers, Layers]:
    """Layers that paths and clusters have for themselves, and those of the mixed rest.

    :param thresholds: bytes, one for each cluster.
    """
    own: Layers = []
    mixed: dict[int, list[str]] = {}
    for cluster, threshold in zip(clusters, thresholds, strict=True):
        rest = [p for p in cluster.members if _ALONE * graph[p]["size"] < threshold]
        own += [[path] for path in cluster.members[: len(cluster.members) - len(rest)]]
        if not rest:
            continue
        if _TOGETHER * _size(graph, rest) >= threshold:
            own.append(rest)
        else:
            mixed.setdefault(cluster.level, []).extend(rest)
    return own, list(mixed.values())


def _size(graph: Graph, paths: Sequence[str]) -> int:
    return sum(graph[path]["size"] for path in paths)


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
        size = _size(graph, layer)
        least = min(counts[anchors[path]] for path in layer)
        return (-size * sqrt(least + 1), sorted((store_name(path), path) for path in layer))

    return sorted((sorted(layer) for layer in layers), key=key)
