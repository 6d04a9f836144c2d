"""The place of a build in the queue."""

from collections import Counter
from collections.abc import Callable

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall


@attrs.define(eq=False)
class Ticket:
    """A build that waits, has its turn, or has left. All but ``give_way`` is the queue's to set.

    :ivar number: later ones have greater numbers.
    :ivar turn: fires when the turn comes; fails with ``QueueFull`` if the place is taken away.
        Who cancels it leaves the queue.
    :ivar give_way: stops the build that has its turn, which is to wait for another one then.
    :ivar gives_way: whether that was called.
    :ivar clients: who waits for the build, and how often; the last one stays with none.
    :ivar counted: those of them that it is charged to at the moment.
    :ivar left: when the last one left, as a number of the same kind; none while one waits.
    :ivar abandoned: whether that is a while ago.
    :ivar stuck: whether it has waited for another build for a while, with its turn.
    :ivar held: whether it does so without one.
    """

    number: int
    turn: Deferred[None] = attrs.Factory(Deferred)
    give_way: Callable[[], None] | None = None
    gives_way: bool = False
    clients: Counter[str] = attrs.Factory(Counter)
    counted: tuple[str, ...] = ()
    left: int | None = None
    abandoned: bool = False
    stuck: bool = False
    held: bool = False
    _timers: dict[str, IDelayedCall] = attrs.Factory(dict)

    def later(self, name: str, call: IDelayedCall) -> None:
        """Have a call come for it, instead of the one of that name."""
        self.cancel(name)
        self._timers[name] = call

    def cancel(self, name: str) -> None:
        """Have a call come no more; harmless if there is none."""
        call = self._timers.pop(name, None)
        if call is not None and call.active():
            call.cancel()
