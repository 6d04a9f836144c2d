"""Turns for a bounded number of builds, shared between clients and their networks.

A turn goes to the client with the fewest running builds, and among equals to the one that has
waited longest since its last turn. While others wait, builds give their turns back: first those
that can't go on before another build has made something, then those that nobody waits for any
more, then the newest of a client, or network, that runs at least two more than the one that waits.
A build that gives way is stopped, and waits for another turn.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from nixery.builds.ticket import Ticket
from nixery.model.events import Blocked, BuildStarted, BuildStopped, Event, Unblocked
from nixery.model.networks import networks_of
from nixery.model.reading import Reading
from nixery.model.service_errors import QueueFull
from nixery.model.shares import Shares

T = TypeVar("T")

GRACE = 10.0
"""Seconds after which a build that no client waits for counts as abandoned: clients that are
redirected, or told to start over, are away for a moment."""
SETTLE = 2.0
"""Seconds after which a build that waits for another's derivation gives way: most take less."""
PATIENCE = 10.0
"""Seconds after which a build that gave way to wait for a derivation tries again, if no build here
makes it."""

BLOCKED, ABANDONED, SHARE = "blocked", "abandoned", "share"


class BuildQueue:
    """The builds that have their turn, and those that wait.

    When the queue is full, abandoned builds leave it first; then a client with fewer waiting
    builds takes the place of the newest build of the client, or network, with the most. A build
    that several clients wait for stays if one of them has a right to it.

    :ivar gave_way: how often builds gave their turn back, by reason.
    """

    def __init__(self, clock: IReactorTime, at_once: int, waiting: int) -> None:
        """
        :param at_once: the number of turns.
        :param waiting: the number of builds that may wait.
        """
        self.gave_way: Counter[str] = Counter()
        self._clock = clock
        self._at_once = at_once
        self._most_waiting = waiting
        self._number = 0
        self._waiting: dict[Ticket, None] = {}
        self._running: dict[Ticket, None] = {}
        self._shares = {True: Shares(), False: Shares()}  # of running, and of waiting builds
        self._since: dict[str, int] = {}  # networks → when they had their last turn

    def readings(self) -> list[Reading]:
        """The metrics of the queue."""
        return [
            Reading("nixery_builds_running", "Builds that run.", lambda: self.running),
            Reading("nixery_builds_waiting", "Builds that wait.", lambda: self.waiting),
            Reading(
                "nixery_builds_gave_way",
                "Builds that gave their turn back to others.",
                lambda: self.gave_way,
                "reason",
                total=True,
            ),
        ]

    @property
    def running(self) -> int:
        """The number of builds that have their turn."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """The number of builds that wait for their turn."""
        return len(self._waiting)

    def enter(self, client: str) -> Ticket:
        """Queue a build that a client waits for.

        :raises QueueFull: if there is no place for it.
        """
        if self._is_full:
            self._displace(client)
        ticket = Ticket(self._next_number(), clients=Counter([client]))
        self._wait(ticket)
        return ticket

    def enter_behind(self, client: str) -> Ticket:
        """Queue work that nobody waits for: it begins when no other waits or runs, and gives way to
        any that needs its turn.

        :param client: names the kind of work, which is charged for turns as a client is.
        :raises QueueFull: if there is no place for it.
        """
        if self._is_full:
            raise QueueFull(self.waiting)
        number, nobody = self._next_number(), Counter({client: 0})
        ticket = Ticket(number, clients=nobody, left=number, abandoned=True, behind=True)
        self._wait(ticket)
        return ticket

    @property
    def _is_full(self) -> bool:
        return self.running >= self._at_once and self.waiting >= self._most_waiting

    async def in_turn(
        self,
        ticket: Ticket,
        work: Callable[[], "Deferred[T]"],
        stopping: Callable[[], bool],
        on_wait: Callable[[], None] = lambda: None,
    ) -> T:
        """Do some work when its turn comes; what gives way begins anew with the next turn.

        :param work: begins it; it is cancelled to give way.
        :param stopping: whether nothing begins anew.
        :param on_wait: called when it has to wait for its turn.
        """
        while True:
            if not ticket.turn.called:
                on_wait()
            await ticket.turn
            working = work()
            ticket.give_way = working.cancel
            try:
                result = await working
            except BaseException:  # what is stopped may say so in any way
                if stopping() or not ticket.gives_way:
                    self.end(ticket)
                    raise
                self.again(ticket)
            else:
                self.end(ticket)
                return result

    def join(self, ticket: Ticket, client: str) -> None:
        """Note that one more client waits for a build."""
        if ticket.left is not None:
            ticket.left, ticket.abandoned, ticket.behind = None, False, False
            ticket.cancel_timer(ABANDONED)
            ticket.clients.clear()
        ticket.clients[client] += 1
        self._count(ticket)
        self._look()

    def part(self, ticket: Ticket, client: str) -> None:
        """Note that a client waits no longer; the last one is still charged for the build."""
        if ticket not in self._waiting and ticket not in self._running:
            return
        ticket.clients[client] -= 1
        if ticket.clients.total() == 0:
            ticket.left = self._next_number()
            ticket.set_timer(ABANDONED, self._clock.callLater(GRACE, self._abandon, ticket))
        elif not ticket.clients[client]:
            del ticket.clients[client]
        self._count(ticket)

    def note(self, ticket: Ticket, event: Event) -> None:
        """Take an event of a build that has its turn."""
        if ticket not in self._running or ticket.gives_way:
            return  # while a build is being stopped, its events say nothing of what it waits for
        match event:
            case BuildStarted(derivation=name):
                ticket.makes.add(name)
            case BuildStopped(derivation=name):
                ticket.makes.discard(name)
                if self._release([name]):
                    self._look()
            case Blocked(outputs=outputs):
                ticket.blocked, ticket.stuck = outputs, False
                ticket.set_timer(BLOCKED, self._clock.callLater(SETTLE, self._stick, ticket))
            case Unblocked():
                ticket.blocked, ticket.stuck = None, False
                ticket.cancel_timer(BLOCKED)

    def leave(self, ticket: Ticket) -> None:
        """Give up the place of a build that waits; does nothing if it does not wait."""
        if ticket in self._waiting:
            del self._waiting[ticket]
            self._forget(ticket, self._shares[False])

    def end(self, ticket: Ticket) -> None:
        """End the turn of a build that has ended."""
        self._stop(ticket)
        self._forget(ticket, self._shares[True])
        self._look()

    def again(self, ticket: Ticket) -> None:
        """End the turn of a build that gave way, and have it wait for another."""
        blocked = ticket.blocked if ticket.stuck else None
        self._stop(ticket)
        self._shares[True].remove(ticket.counted)
        ticket.counted, ticket.gives_way, ticket.give_way = (), False, None
        ticket.cancel_timer(BLOCKED)
        if blocked is not None:
            ticket.held = blocked
            self._try_later(ticket)
        self._wait(ticket)

    def _stop(self, ticket: Ticket) -> None:
        del self._running[ticket]
        made, ticket.makes = ticket.makes, set()
        ticket.blocked, ticket.stuck = None, False
        self._release(made)

    def _wait(self, ticket: Ticket) -> None:
        ticket.turn = Deferred(lambda _: self.leave(ticket))
        self._waiting[ticket] = None
        self._count(ticket)
        self._look()

    def _look(self) -> None:
        """Give free turns away, and have a running build make room for one that waits."""
        while (ticket := self._next()) is not None and self.running < self._at_once:
            if ticket.behind and self._running:
                return
            self._begin(ticket)
        if ticket is None or ticket.abandoned:
            return
        if not any(running.gives_way for running in self._running):
            self._make_room(ticket)

    def _next(self) -> Ticket | None:
        ready = (ticket for ticket in self._waiting if ticket.held is None)
        return min(ready, key=self._order, default=None)

    def _order(self, ticket: Ticket) -> tuple[bool, list[tuple[int, int]], int]:
        def by_network(client: str) -> list[tuple[int, int]]:
            counts = self._shares[True].of(client)
            networks = networks_of(client)
            return [(n, self._since[name]) for n, name in zip(counts, networks, strict=True)]

        first = min(map(by_network, ticket.clients))
        return ticket.abandoned, first, ticket.number

    def _begin(self, ticket: Ticket) -> None:
        del self._waiting[ticket]
        self._shares[False].remove(ticket.counted)
        ticket.counted = ()
        self._running[ticket] = None
        self._count(ticket)
        now = self._next_number()
        for client in ticket.clients:
            self._since.update(dict.fromkeys(networks_of(client), now))
        ticket.turn.callback(None)

    def _make_room(self, other: Ticket) -> None:
        """Have a running build give way to one that waits, if one has to."""
        running = [ticket for ticket in self._running if ticket.give_way is not None]
        if victim := next((ticket for ticket in running if ticket.stuck), None):
            reason = BLOCKED
        elif victim := _longest_abandoned(running):
            reason = ABANDONED
        elif victim := _richest(running, other.clients, self._shares[True]):
            reason = SHARE
        else:
            return
        assert victim.give_way is not None
        victim.gives_way = True
        self.gave_way[reason] += 1
        victim.give_way()

    def _displace(self, client: str) -> None:
        """Have a build leave the full queue for a client with fewer waiting builds.

        :raises QueueFull: if none has to.
        """
        waiting, full = list(self._waiting), QueueFull(self.waiting)
        victim = _longest_abandoned(waiting) or _richest(waiting, [client], self._shares[False])
        if victim is None:
            raise full
        self.leave(victim)
        victim.turn.errback(full)

    def _abandon(self, ticket: Ticket) -> None:
        ticket.abandoned = True
        self._look()

    def _stick(self, ticket: Ticket) -> None:
        ticket.stuck = True
        self._look()

    def _try_later(self, ticket: Ticket) -> None:
        def look() -> None:
            if any(ticket.is_held_for(running.makes) for running in self._running):
                self._try_later(ticket)
            else:
                self._unhold(ticket)
                self._look()

        ticket.set_timer(BLOCKED, self._clock.callLater(PATIENCE, look))

    def _release(self, derivations: Iterable[str]) -> bool:
        """Let builds go on that wait for derivations that are no longer being made.

        :return: whether there are any.
        """
        freed = [ticket for ticket in self._waiting if ticket.is_held_for(derivations)]
        for ticket in freed:
            self._unhold(ticket)
        return bool(freed)

    def _unhold(self, ticket: Ticket) -> None:
        ticket.held = None
        ticket.cancel_timer(BLOCKED)

    def _count(self, ticket: Ticket) -> None:
        """Charge a build to the clients that wait for it now."""
        has_turn = ticket in self._running
        if not has_turn and ticket not in self._waiting:
            return
        shares, before = self._shares[has_turn], ticket.counted
        ticket.counted = tuple(ticket.clients)
        shares.add(ticket.counted)
        now = self._next_number()
        for client in ticket.counted:
            for network in networks_of(client):
                self._since.setdefault(network, now)
        self._uncount(before, shares)

    def _uncount(self, clients: Iterable[str], shares: Shares) -> None:
        shares.remove(clients)
        for client in clients:
            for network in networks_of(client):
                if not any(network in each for each in self._shares.values()):
                    self._since.pop(network, None)

    def _forget(self, ticket: Ticket, shares: Shares) -> None:
        self._uncount(ticket.counted, shares)
        ticket.counted = ()
        self._unhold(ticket)
        ticket.cancel_timer(ABANDONED)

    def _next_number(self) -> int:
        self._number += 1
        return self._number


def _longest_abandoned(tickets: Iterable[Ticket]) -> Ticket | None:
    abandoned = (ticket for ticket in tickets if ticket.abandoned)
    return min(abandoned, key=lambda ticket: (not ticket.behind, ticket.left or 0), default=None)


def _richest(tickets: Iterable[Ticket], others: Iterable[str], shares: Shares) -> Ticket | None:
    """A build all of whose clients have more than their share: preferably one that is blocked, or
    that nobody waits for, else the newest of those with the most."""

    def owes(client: str) -> bool:
        return any(shares.owes(client, other) for other in others)

    def order(ticket: Ticket) -> tuple[bool, bool, tuple[int, ...], int]:
        counts = min(map(shares.of, ticket.clients))
        return ticket.blocked is not None, ticket.left is not None, counts, ticket.number

    too_much = (ticket for ticket in tickets if all(map(owes, ticket.clients)))
    return max(too_much, key=order, default=None)
