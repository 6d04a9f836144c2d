"""The place of a build in the queue."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall


@attrs.define(eq=False)
class Ticket:
    """A build that waits, has its turn, or has left. Only ``give_way`` is set by the build.

    Builds that wait for each other know the names of outputs, and those that make them the names
    of derivations, which are prefixes of the former.

    :ivar number: later tickets have greater numbers.
    :ivar turn: fires when the turn comes; fails with ``QueueFull`` if the place is taken away.
        Cancelling it leaves the queue.
    :ivar give_way: stops the build, which has its turn and will wait for another.
    :ivar gives_way: whether that was called.
    :ivar behind: whether it begins only when no other build runs.
    :ivar clients: the clients that wait for the build, and how often; the last one stays at zero.
    :ivar counted: those clients that the build is charged to.
    :ivar left: when the last client left, as a number of the same kind; None while one waits.
    :ivar abandoned: whether that was a while ago.
    :ivar makes: derivations that the build is making.
    :ivar blocked: outputs that it waits for with its turn; None if it does not.
    :ivar stuck: whether it has done so for a while.
    :ivar held: outputs that it waits for without a turn; None if it does not.
    """

    number: int
    turn: Deferred[None] = attrs.Factory(Deferred)
    give_way: Callable[[], None] | None = None
    gives_way: bool = False
    behind: bool = False
    clients: Counter[str] = attrs.Factory(Counter)
    counted: tuple[str, ...] = ()
    left: int | None = None
    abandoned: bool = False
    makes: set[str] = attrs.Factory(set)
    blocked: Sequence[str] | None = None
    stuck: bool = False
    held: Sequence[str] | None = None
    _timers: dict[str, IDelayedCall] = attrs.Factory(dict)

    def set_timer(self, name: str, call: IDelayedCall) -> None:
        """Replace the timer of that name."""
        self.cancel_timer(name)
        self._timers[name] = call

    def cancel_timer(self, name: str) -> None:
        """Cancel the timer of that name, if there is one."""
        call = self._timers.pop(name, None)
        if call is not None and call.active():
            call.cancel()

    def is_held_for(self, derivations: Iterable[str]) -> bool:
        """Whether the build waits, without a turn, for an output of some derivations."""
        outputs = self.held or ()
        return any(o == d or o.startswith(f"{d}-") for d in derivations for o in outputs)
