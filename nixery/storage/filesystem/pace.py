"""Long work in a thread, in slices, so that the reactor has its turns in between."""

import threading
import time
from collections.abc import Callable

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
        self._rest_at = 0.0

    def __call__(self) -> None:
        """Rest, if it is time to.

        :raises Stopped: after :meth:`stop`.
        """
        if self._now() >= self._rest_at:
            self.rest(_REST)
            self._rest_at = self._now() + _SLICE

    def rest(self, seconds: float) -> None:
        """Rest for some time.

        :raises Stopped: as soon as it is stopped.
        """
        if self._stopped.wait(seconds):
            raise Stopped

    def stop(self) -> None:
        """End the work at its next step, or its rest now. May be called in any thread."""
        self._stopped.set()
