"""Who needs what: on random graphs of references."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from nixery.model.dependencies import needed_by, shortest_path

Graph = dict[str, tuple[str, ...]]


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Acyclic graphs: each path refers to later ones."""
    count = draw(st.integers(1, 12))
    names = draw(st.permutations([f"p{number}" for number in range(count)]))
    return {
        name: tuple(draw(st.lists(st.sampled_from(names[at + 1 :]), unique=True, max_size=4)))
        if names[at + 1 :]
        else ()
        for at, name in enumerate(names)
    }


def distances(graph: Graph, start: str) -> dict[str, int]:
    """How many references lead to each path at least, found step by step."""
    found = {start: 0}
    for _ in graph:
        for path, references in graph.items():
            for each in references:
                if path in found:
                    found[each] = min(found.get(each, len(graph)), found[path] + 1)
    return found


@given(graphs(), st.data())
def test_the_path_is_one_and_the_shortest(graph: Graph, data: st.DataObject) -> None:
    """It begins at a start, follows references to the goal, and no other has fewer."""
    starts = data.draw(st.lists(st.sampled_from(sorted(graph)), min_size=1, max_size=3))
    goal = data.draw(st.sampled_from(sorted(graph)))
    known = [distances(graph, start)[goal] for start in starts if goal in distances(graph, start)]
    steps = shortest_path(graph, starts, goal)
    assert len(steps) == (min(known) + 1 if known else 0)
    if steps:
        assert steps[0] in starts
        assert steps[-1] == goal
        assert all(after in graph[before] for before, after in pairwise(steps))


@given(graphs(), st.data())
def test_a_path_is_needed_by_those_that_lead_to_it(graph: Graph, data: st.DataObject) -> None:
    """A package needs what its store paths lead to, and nothing else."""
    some = st.lists(st.sampled_from(sorted(graph)), min_size=1, max_size=2)
    roots = data.draw(st.lists(some, max_size=4))
    needing = needed_by(graph, roots)
    for path in graph:
        those = [any(path in distances(graph, each) for each in root) for root in roots]
        assert [bool(needing[path] >> number & 1) for number in range(len(roots))] == those


def test_what_is_not_there() -> None:
    """Nothing leads to an unknown store path, and from one."""
    assert shortest_path({"a": ()}, ["a"], "b") == []
    assert shortest_path({"a": ()}, ["x"], "a") == []
