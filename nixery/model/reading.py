"""Metrics that a part of the daemon declares, and that are read when somebody asks."""

from collections.abc import Callable, Mapping

import attrs

Value = float | Mapping[str, float]
"""The value of a metric; by the label's value where it has a label."""


@attrs.frozen
class Reading:
    """A metric that is read from a part whenever somebody asks.

    :param label: the name of its label; empty if it has none.
    :param total: whether it only ever grows.
    """

    name: str
    help: str
    read: Callable[[], Value]
    label: str = ""
    total: bool = False

    def values(self) -> Mapping[str, float]:
        """The values now, by the label's value; by the empty text where there is no label."""
        found = self.read()
        return found if isinstance(found, Mapping) else {"": found}


def children(kind: str, count: Callable[[], int]) -> Reading:
    """The metric of a part's child processes.

    :param kind: what they do.
    """
    text = "Processes that the daemon has started and that run."
    return Reading("nixery_children", text, lambda: {kind: count()}, "kind")
