"""Grouping store paths into layers."""

import hashlib
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nixery.model.closure import Graph, Node
from nixery.model.grouping import group_layers


def path_of(name: str, salt: str = "") -> str:
    digest = hashlib.sha256((salt + name).encode()).hexdigest()[:32]
    return f"/nix/store/{digest}-{name}"


def rehash(graph: Graph, salt: str) -> dict[str, Node]:
    """The same packages with other store hashes."""
    new = {path: path_of(path[44:], salt) for path in graph}
    return {
        new[path]: {"size": node["size"], "references": [new[r] for r in node["references"]]}
        for path, node in graph.items()
    }


@st.composite
def graphs(draw: st.DrawFn) -> dict[str, Node]:
    """Graphs without cycles: a path refers to earlier ones."""
    count = draw(st.integers(0, 40))
    paths = [path_of(f"p{number}-1.{number}") for number in range(count)]
    graph: dict[str, Node] = {}
    for number, path in enumerate(paths):
        earlier = draw(st.lists(st.integers(0, number - 1), max_size=4)) if number else []
        size = draw(st.integers(0, 1 << draw(st.integers(0, 28))))
        graph[path] = {"size": size, "references": sorted({paths[n] for n in earlier})}
    return graph


TABLES = st.dictionaries(st.integers(0, 40).map(lambda n: f"p{n}-1.{n}"), st.integers(2, 10_000))
BUDGETS = st.integers(1, 60)


@given(graphs(), TABLES, BUDGETS)
def test_a_partition_within_the_budget(
    graph: dict[str, Node], table: dict[str, int], budget: int
) -> None:
    """Every path is in exactly one layer, none is empty, and there are no more than allowed."""
    layers = group_layers(graph, [], table, budget)
    assert sorted(path for layer in layers for path in layer) == sorted(graph)
    assert all(layers)
    assert len(layers) <= budget


@given(graphs(), TABLES, BUDGETS, st.randoms())
def test_order_of_inputs(
    graph: dict[str, Node], table: dict[str, int], budget: int, shuffler: random.Random
) -> None:
    """However the inputs are ordered, the layers are the same and in the same order."""
    paths = list(graph)
    shuffler.shuffle(paths)
    shuffled: dict[str, Node] = {
        path: {"size": graph[path]["size"], "references": graph[path]["references"][::-1]}
        for path in paths
    }
    turned = dict(reversed(list(table.items())))
    one = group_layers(graph, sorted(graph), table, budget)
    assert group_layers(shuffled, paths, turned, budget) == one


@given(graphs(), TABLES, BUDGETS)
def test_store_hashes_do_not_matter(
    graph: dict[str, Node], table: dict[str, int], budget: int
) -> None:
    """The same packages with other hashes are grouped in the same way."""

    def names(layers: list[list[str]]) -> list[list[str]]:
        return [sorted(path[44:] for path in layer) for layer in layers]

    other = rehash(graph, "another")
    assert names(group_layers(graph, [], table, budget)) == names(
        group_layers(other, [], table, budget)
    )


def library(count: int, size: int = 100_000) -> dict[str, Node]:
    """A C library, and packages that refer to it."""
    libc = path_of("libc-2.0")
    graph: dict[str, Node] = {libc: {"size": 30_000_000, "references": []}}
    for number in range(count):
        graph[path_of(f"lib{number}-1.0")] = {"size": size + number, "references": [libc]}
    return graph


@pytest.mark.parametrize("table", [{}, {"libc-2.0": 1000}])
def test_large_and_popular_paths_are_layers(table: dict[str, int]) -> None:
    """What is large and what all refer to is a layer of its own, and the lowest."""
    layers = group_layers(library(200), [], table, 20)
    assert layers[0] == [path_of("libc-2.0")]


def test_room_for_all() -> None:
    """If there is room, every path is a layer of its own: images share the most then."""
    graph = library(50)
    assert sorted(group_layers(graph, [], {}, 51)) == sorted([path] for path in graph)


def test_clusters_stay_together() -> None:
    """What is there for one popular path's sake shares a layer with it, and that layer is the
    same in another image."""
    table = {"app-1.0": 500}
    parts = [path_of(f"part{number}-1.0") for number in range(30)]
    app = path_of("app-1.0")
    cluster: dict[str, Node] = {path: {"size": 50_000, "references": []} for path in parts}
    cluster[app] = {"size": 50_000, "references": parts}

    def with_others(prefix: str) -> set[frozenset[str]]:
        others: dict[str, Node] = {
            path_of(f"{prefix}{n}-1.0"): {"size": 2_000_000 + n, "references": []}
            for n in range(40)
        }
        return set(map(frozenset, group_layers({**cluster, **others}, [], table, 30)))

    shared = with_others("a") & with_others("b")
    assert frozenset(cluster) in shared


def test_deep_graphs() -> None:
    """A chain of ten thousand paths is no problem."""
    paths = [path_of(f"p-{number}") for number in range(10_000)]
    graph: dict[str, Node] = {
        path: {"size": number, "references": paths[number - 1 : number] if number else []}
        for number, path in enumerate(paths)
    }
    layers = group_layers(graph, paths[-1:], {}, 94)
    assert sum(map(len, layers)) == len(paths)
    assert len(layers) <= 94


def test_nothing() -> None:
    """Without paths there are no layers."""
    assert group_layers({}, [], {}, 1) == []
