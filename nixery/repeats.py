"""Warnings of what is tried again and again: said once, and not at every try."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import attrs
from twisted.logger import Logger

EVERY = 600.0
"""Seconds in which the same is said once."""
_MOST = 100


@attrs.define
class _Said:
    since: float
    left_out: int = 0


class Repeats:
    """Logs warnings, but not the same one again while it was said lately."""

    def __init__(self, now: Callable[[], float]) -> None:
        """
        :param now: seconds, from any moment on.
        """
        self._now = now
        self._said: OrderedDict[str, _Said] = OrderedDict()

    def warn(self, log: Logger, same: str, text: str, **facts: Any) -> None:
        """Log a warning.

        :param same: what is wrong: warnings that have it in common are the same. What it is wrong
            with may differ.
        :param text: the format of the warning.
        :param facts: what stands in it.
        """
        said = self._said.get(same)
        if said is not None and self._now() - said.since < EVERY:
            said.left_out += 1
            return
        if said is not None and said.left_out:
            text, facts = text + " ({left_out} times since)", facts | {"left_out": said.left_out}
        log.warn(text, **facts)
        self._said[same] = _Said(self._now())
        self._said.move_to_end(same)
        if len(self._said) > _MOST:
            self._said.popitem(last=False)
