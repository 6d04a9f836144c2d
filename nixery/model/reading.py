"""Metrics that a part of the daemon declares, and that are read when somebody asks."""

from collections.abc import Callable, Mapping

import attrs

Values = Callable[[], Mapping[str, float]]
"""Gives values by the label's value; by nothing where there is no label."""


@attrs.frozen
class Reading:
    """A metric that is read from a part whenever somebody asks.

    :param label: the name of its label; empty if it has none.
    :param total: whether it only ever grows.
    """

    name: str
    help: str
    read: Values
    label: str = ""
    total: bool = False


def single(read: Callable[[], float]) -> Values:
    """Values of a metric without a label."""
    return lambda: {"": read()}


def children(kind: str, count: Callable[[], int]) -> Reading:
    """The metric of a part's child processes.

    :param kind: what they do.
    """
    text = "Processes that the daemon has started and that run."
    return Reading("nixery_children", text, lambda: {kind: count()}, "kind")
