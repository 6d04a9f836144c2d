"""How late the reactor is: whatever keeps it busy makes every client wait."""

from collections import deque
from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime

from nixery.lifecycle import Timer
from nixery.model.reading import Reading

INTERVAL = 0.05
"""Seconds between two measurements: what holds clients up for longer is seen, whenever it is."""
_REMEMBERED = round(60 / INTERVAL)  # of them: a minute


class LagMeter(Timer):
    """Measures how much later than planned the reactor calls."""

    def __init__(self, clock: IReactorTime, observe: Callable[[float], None]) -> None:
        """
        :param observe: takes seconds.
        """
        super().__init__(clock, INTERVAL, self._measure, now=False)
        self._reactor = clock
        self._observe = observe
        self._last: deque[float] = deque(maxlen=_REMEMBERED)
        self._due = 0.0

    @property
    def most(self) -> float:
        """The longest of the last minute, in seconds."""
        return max(self._last, default=0.0)

    def readings(self) -> list[Reading]:
        """The metrics of the reactor's lag."""
        return [
            Reading(
                "nixery_reactor_lag_most_seconds",
                "The latest that the reactor was in the last minute.",
                lambda: self.most,
            )
        ]

    def startService(self) -> None:
        """Begin to measure."""
        self._due = self._reactor.seconds() + INTERVAL
        super().startService()

    def _measure(self) -> None:
        now = self._reactor.seconds()
        late = max(0.0, now - self._due)
        self._last.append(late)
        self._observe(late)
        self._due = now + INTERVAL - (now - self._due) % INTERVAL
