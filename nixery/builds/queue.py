"""Turns for a bounded number of builds, shared out between clients and their networks.

A turn goes to whoever has the fewest builds running, and among equals to who has waited longest
since the last one. While others wait, builds give their turns back: first those that can't go on
before another build is further, then those that nobody waits for any more, then the newest of a
client, or a network of clients, that runs two or more than who waits. What gives way is stopped,
and waits for another turn.
"""

from collections import Counter
from collections.abc import Iterable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from nixery.builds.blocking import Blocking
from nixery.builds.ticket import Ticket
from nixery.model.errors import QueueFull
from nixery.model.events import Blocked, Event, Unblocked
from nixery.model.networks import networks_of
from nixery.model.reading import Reading
from nixery.model.shares import Shares

GRACE = 10.0
"""Seconds after which a build is taken for one that nobody waits for: clients that are redirected,
or told to start over, are away for a moment."""
SETTLE = 2.0
"""Seconds after which a build that waits for another's derivation gives way: most take less."""
PATIENCE = 10.0
"""Seconds after which a build that gave way to wait for another one's derivation tries again, where
nobody here makes that."""

BLOCKED, ABANDONED, SHARE = "blocked", "abandoned", "share"


class BuildQueue:
    """Who may build now, and who waits.

    When the queue is full, those leave it first that nobody waits for; then a client with fewer
    waiting builds gets the place of the newest of the client, or network, with the most: nobody
    keeps the others out. A build that several clients ask for is safe if it is for one of them.
    """

    def __init__(self, clock: IReactorTime, at_once: int, waiting: int) -> None:
        """
        :param at_once: turns at the same time.
        :param waiting: builds that may wait for theirs.
        """
        self._clock = clock
        self._at_once = at_once
        self._most_waiting = waiting
        self._number = 0
        self._waiting: dict[Ticket, None] = {}
        self._running: dict[Ticket, None] = {}
        self._shares = {True: Shares(), False: Shares()}  # of what runs, and of what waits
        self._since: dict[str, int] = {}
        self._blocking: Blocking[Ticket] = Blocking(self._unblock)
        self.gave_way: Counter[str] = Counter()
        """How often a build gave its turn back, by reason."""

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
        """Builds that have their turn."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """Builds that wait for their turn."""
        return len(self._waiting)

    def enter(self, client: str) -> Ticket:
        """Take a place for a build that a client waits for.

        :raises QueueFull: if there is none.
        """
        if self.running >= self._at_once and self.waiting >= self._most_waiting:
            self._displace(client)
        ticket = Ticket(self._next_number())
        ticket.clients[client] = 1
        self._wait(ticket)
        return ticket

    def join(self, ticket: Ticket, client: str) -> None:
        """A client waits for a build, too."""
        if ticket.left is not None:
            ticket.left, ticket.abandoned = None, False
            ticket.cancel(ABANDONED)
            ticket.clients.clear()
        ticket.clients[client] += 1
        self._count(ticket)
        self._look()

    def part(self, ticket: Ticket, client: str) -> None:
        """A client does not wait for a build any more; the last one is still charged for it."""
        if ticket not in self._waiting and ticket not in self._running:
            return
        ticket.clients[client] -= 1
        if ticket.clients.total() == 0:
            ticket.left = self._next_number()
            ticket.later(ABANDONED, self._clock.callLater(GRACE, self._abandon, ticket))
        elif not ticket.clients[client]:
            del ticket.clients[client]
        self._count(ticket)

    def note(self, ticket: Ticket, event: Event) -> None:
        """A build that has its turn tells what it does."""
        if ticket not in self._running or ticket.gives_way:
            return  # what is being stopped says nothing of what it waited for
        if isinstance(event, Blocked | Unblocked):
            ticket.stuck = False
            ticket.cancel(BLOCKED)
        if isinstance(event, Blocked):
            ticket.later(BLOCKED, self._clock.callLater(SETTLE, self._stick, ticket))
        if self._blocking.note(ticket, event):
            self._look()

    def leave(self, ticket: Ticket) -> None:
        """Give up a place while it waits; harmless otherwise."""
        if ticket in self._waiting:
            del self._waiting[ticket]
            self._forget(ticket, False)

    def end(self, ticket: Ticket) -> None:
        """A turn is over: the next one's comes."""
        del self._running[ticket]
        self._blocking.end(ticket)
        self._forget(ticket, True)
        self._look()

    def again(self, ticket: Ticket) -> None:
        """A turn is over, and the build, which gave way, waits for another."""
        del self._running[ticket]
        blocked = self._blocking.end(ticket)
        self._shares[True].remove(ticket.counted)
        ticket.counted = ()
        ticket.gives_way, ticket.give_way = False, None
        ticket.cancel(BLOCKED)
        if ticket.stuck and blocked is not None:
            ticket.held = True
            self._blocking.hold(ticket, blocked)
            self._try_later(ticket)
        ticket.stuck = False
        self._wait(ticket)

    def _wait(self, ticket: Ticket) -> None:
        ticket.turn = Deferred(lambda _: self.leave(ticket))
        self._waiting[ticket] = None
        self._count(ticket)
        self._look()

    def _look(self) -> None:
        """Have builds begin for which there is room, and another one make room."""
        while (ticket := self._next()) is not None and self.running < self._at_once:
            self._begin(ticket)
        if ticket is None or ticket.abandoned:
            return
        if not any(running.gives_way for running in self._running):
            self._make_room(ticket)

    def _next(self) -> Ticket | None:
        """Whose turn is next."""
        ready = (ticket for ticket in self._waiting if not ticket.held)
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
        """Have a build give way to another that waits, if one has to."""
        running = [ticket for ticket in self._running if ticket.give_way is not None]
        if victim := next((ticket for ticket in running if ticket.stuck), None):
            reason = BLOCKED
        elif victim := _longest_abandoned(running):
            reason = ABANDONED
        elif victim := self._richest(running, other.clients, self._shares[True]):
            reason = SHARE
        else:
            return
        assert victim.give_way is not None
        victim.gives_way = True
        self.gave_way[reason] += 1
        victim.give_way()

    def _displace(self, client: str) -> None:
        """Have a build leave the full queue for a client that has fewer waiting.

        :raises QueueFull: if there is none that has to.
        """
        waiting, full = list(self._waiting), QueueFull(self.waiting)
        victim = _longest_abandoned(waiting)
        victim = victim or self._richest(waiting, [client], self._shares[False])
        if victim is None:
            raise full
        self.leave(victim)
        victim.turn.errback(full)

    def _richest(
        self, tickets: Iterable[Ticket], others: Iterable[str], shares: Shares
    ) -> Ticket | None:
        """A build of which all clients have too much: rather one that does nothing, or that nobody
        waits for, and the newest of those who have the most."""

        def owes(client: str) -> bool:
            return any(shares.owes(client, other) for other in others)

        def order(ticket: Ticket) -> tuple[bool, bool, tuple[int, ...], int]:
            idle, left = self._blocking.is_blocked(ticket), ticket.left is not None
            return idle, left, min(map(shares.of, ticket.clients)), ticket.number

        too_much = (ticket for ticket in tickets if all(map(owes, ticket.clients)))
        return max(too_much, key=order, default=None)

    def _abandon(self, ticket: Ticket) -> None:
        ticket.abandoned = True
        self._look()

    def _stick(self, ticket: Ticket) -> None:
        ticket.stuck = True
        self._look()

    def _try_later(self, ticket: Ticket) -> None:
        def look() -> None:
            if self._blocking.is_made(ticket):
                self._try_later(ticket)
            else:
                self._unblock(ticket)
                self._look()

        ticket.later(BLOCKED, self._clock.callLater(PATIENCE, look))

    def _unblock(self, ticket: Ticket) -> None:
        """What a build waited for may be there."""
        ticket.held = False
        self._blocking.release(ticket)
        ticket.cancel(BLOCKED)

    def _count(self, ticket: Ticket) -> None:
        """Have a build counted for the clients that wait for it now."""
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

    def _forget(self, ticket: Ticket, had_turn: bool) -> None:
        self._uncount(ticket.counted, self._shares[had_turn])
        ticket.counted = ()
        self._unblock(ticket)
        ticket.cancel(ABANDONED)

    def _uncount(self, clients: Iterable[str], shares: Shares) -> None:
        shares.remove(clients)
        for client in clients:
            for network in networks_of(client):
                if not any(network in each for each in self._shares.values()):
                    self._since.pop(network, None)

    def _next_number(self) -> int:
        self._number += 1
        return self._number


def _longest_abandoned(tickets: Iterable[Ticket]) -> Ticket | None:
    abandoned = (ticket for ticket in tickets if ticket.abandoned)
    return min(abandoned, key=lambda ticket: ticket.left or 0, default=None)
