"""How much memory a child takes, and an end to one that takes too much.

Resource limits are no help: builders would inherit them, and may well need more than Nix does.
"""

from collections.abc import Callable
from contextlib import suppress

import psutil
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

EVERY = 0.5
"""Seconds between two looks. Nix's evaluator grows by up to a gigabyte a second."""


class Weighing:
    """Looks again and again how much memory a program has that a supervisor runs."""

    def __init__(
        self, clock: IReactorTime, supervisor: int, limit: int, on_outgrown: Callable[[], None]
    ) -> None:
        """
        :param supervisor: the process that runs it.
        :param limit: bytes of memory that it may have, without that of those who come from it.
        :param on_outgrown: is called once, when it had more and was killed.
        """
        self._supervisor = supervisor
        self._limit = limit
        self._on_outgrown = on_outgrown
        self._program: psutil.Process | None = None
        self._call = LoopingCall(self._look)
        self._call.clock = clock
        self._call.start(EVERY, now=False)

    def stop(self) -> None:
        """Look no more; harmless if that was said before."""
        if self._call.running:
            self._call.stop()

    def _look(self) -> None:
        # It may end at any moment.
        with suppress(psutil.Error, OSError):
            if self._program is None:
                self._program = _first_child(self._supervisor)
            elif self._program.memory_info().rss > self._limit:
                self._program.kill()
                self.stop()
                self._on_outgrown()


def _first_child(pid: int) -> psutil.Process | None:
    """What a supervisor runs: orphans that come to it are younger."""
    with open(f"/proc/{pid}/task/{pid}/children", "rb") as file:
        children = file.read().split()
    return psutil.Process(int(children[0])) if children else None
