"""How late the reactor is: whatever keeps it busy keeps every client waiting."""

from collections import deque
from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

INTERVAL = 0.5
"""Seconds between two measurements."""
_REMEMBERED = 120  # of them: a minute


class LagMeter:
    """Measures how much later than asked for the reactor calls."""

    def __init__(self, clock: IReactorTime, observe: Callable[[float], None]) -> None:
        """
        :param observe: takes seconds.
        """
        self._clock = clock
        self._observe = observe
        self._last: deque[float] = deque(maxlen=_REMEMBERED)
        self._due = 0.0
        self._loop = LoopingCall(self._measure)
        self._loop.clock = clock

    @property
    def most(self) -> float:
        """The longest of the last minute, in seconds."""
        return max(self._last, default=0.0)

    def start(self) -> None:
        """Begin to measure."""
        self._due = self._clock.seconds() + INTERVAL
        self._loop.start(INTERVAL, now=False)

    def stop(self) -> None:
        """Measure no more."""
        if self._loop.running:
            self._loop.stop()

    def _measure(self) -> None:
        now = self._clock.seconds()
        late = max(0.0, now - self._due)
        self._last.append(late)
        self._observe(late)
        self._due = now + INTERVAL - (now - self._due) % INTERVAL
