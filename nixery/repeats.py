"""Warnings about what is retried again and again: logged once in a while, not at each attempt."""

from collections.abc import Callable
from typing import Any

import attrs
from twisted.logger import Logger

from nixery.recent import Recent

EVERY = 600.0
"""Seconds within which the same warning is logged once."""
_MOST = 100


@attrs.define
class _Said:
    left_out: int = 0


class Repeats:
    """Logs warnings, but none again that was logged lately."""

    def __init__(self, now: Callable[[], float]) -> None:
        """
        :param now: a clock, in seconds.
        """
        self._said: Recent[str, _Said] = Recent(now, _MOST)

    def warn(self, log: Logger, same: str, text: str, **facts: Any) -> None:
        """Log a warning.

        :param same: the fault: warnings that have it in common are the same, whatever they are
            about.
        :param text: the format of the warning.
        :param facts: the values for the format.
        """
        if (lately := self._said.get(same, EVERY)) is not None:
            lately.left_out += 1
            return
        before = self._said.get(same)
        if before is not None and before.left_out:
            text, facts = text + " ({left_out} times since)", facts | {"left_out": before.left_out}
        log.warn(text, **facts)
        self._said.put(same, _Said())
