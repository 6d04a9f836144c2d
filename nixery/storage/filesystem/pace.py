"""Long work in a thread, in slices, so that the reactor has its turns in between."""

import threading
import time
from collections.abc import Callable
from math import inf

_SLICE = 0.01
_REST = 0.005
"""Seconds of work, and of rest after that: for each of the few times that an answer needs the
interpreter, it may have to wait for the thread, but not for longer than a slice in all."""


class Stopped(Exception):
    """There is no more time."""


class Pace:
    """To be called after each small piece of the work."""

    def __init__(self, now: Callable[[], float] = time.thread_time) -> None:
        """
        :param now: seconds that the thread has worked, from any moment on: to wait for a disk
            disturbs nobody.
        """
        self._now = now
        self._stopped = threading.Event()
        self._since = inf

    def __call__(self) -> None:
        """Rest, if it is time to.

        :raises Stopped: after :meth:`stop`.
        """
        # A thread that has worked less than it had at the last rest is another one.
        if not self._since <= self._now() < self._since + _SLICE:
            self.rest(_REST)
            self._since = self._now()

    def rest(self, seconds: float) -> None:
        """Rest for some time.

        :raises Stopped: as soon as it is stopped.
        """
        if self._stopped.wait(seconds):
            raise Stopped

    def stop(self) -> None:
        """End the work at its next step, or its rest now. May be called in any thread."""
        self._stopped.set()
