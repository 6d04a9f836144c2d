"""Which package of an image needs which store path, and by which references."""

from collections.abc import Iterable, Mapping, Sequence
from graphlib import TopologicalSorter

References = Mapping[str, Sequence[str]]
"""Store path → the store paths that it refers to, without itself; acyclic."""


def shortest_path(references: References, starts: Iterable[str], goal: str) -> list[str]:
    """The fewest references that lead from one of several store paths to another.

    :return: from the start to the goal; empty if nothing leads there.
    """
    before: dict[str, str] = {}
    reached = dict.fromkeys(starts)
    front = list(reached)
    while front and goal not in reached:
        found: list[str] = []
        for path in front:
            for reference in references.get(path, ()):
                if reference not in reached:
                    reached[reference] = None
                    before[reference] = path
                    found.append(reference)
        front = found
    if goal not in reached:
        return []
    steps = [goal]
    while steps[-1] in before:
        steps.append(before[steps[-1]])
    return steps[::-1]


def needed_by(references: References, roots: Sequence[Iterable[str]]) -> dict[str, int]:
    """The packages that need each store path.

    :param references: those of all store paths that the roots lead to.
    :param roots: the store paths of each package.
    :return: store path → the packages' numbers as bits: 5 for the first and the third.
    """
    order = list(TopologicalSorter(references).static_order())
    needing = dict.fromkeys(order, 0)
    for number, paths in enumerate(roots):
        for path in paths:
            needing[path] = needing.get(path, 0) | 1 << number
    # What refers to others comes behind them in that order.
    for path in reversed(order):
        for reference in references.get(path, ()):
            needing[reference] |= needing[path]
    return needing
