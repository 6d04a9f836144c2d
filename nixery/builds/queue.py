"""Turns for a bounded number of builds; the builds of each client wait for each other."""

from collections import OrderedDict

from twisted.internet.defer import Deferred

from nixery.model.errors import QueueFull


class Ticket:
    """The place of one build: it waits, has its turn, or has left.

    :ivar turn: fires when the turn comes; fails with ``QueueFull`` if the place is taken away.
        Who cancels it leaves the queue.
    """

    def __init__(self, queue: "BuildQueue") -> None:
        self.turn: Deferred[None] = Deferred(lambda _: queue.leave(self))


class BuildQueue:
    """Who may build now, and who waits.

    A turn goes to each client that waits for one, round and round, and among the builds of one
    client to the oldest. A build that several clients ask for waits with each of them. When the
    queue is full, a client with fewer waiting builds gets the place of the newest build of the
    client with the most: nobody keeps the others out.
    """

    def __init__(self, at_once: int, waiting: int) -> None:
        """
        :param at_once: turns at the same time.
        :param waiting: builds that may wait for theirs.
        """
        self._at_once = at_once
        self._most_waiting = waiting
        self._waiting: OrderedDict[Ticket, set[str]] = OrderedDict()
        self._clients: OrderedDict[str, OrderedDict[Ticket, None]] = OrderedDict()
        self.running = 0

    @property
    def waiting(self) -> int:
        """Builds that wait for their turn."""
        return len(self._waiting)

    def enter(self, client: str) -> Ticket:
        """Take a place for a build.

        :param client: who asks for it.
        :raises QueueFull: if there is none.
        """
        ticket = Ticket(self)
        if self.running < self._at_once:
            self.running += 1
            ticket.turn.callback(None)
            return ticket
        if self.waiting >= self._most_waiting:
            self._displace(client)
        self._waiting[ticket] = set()
        self.join(ticket, client)
        return ticket

    def join(self, ticket: Ticket, client: str) -> None:
        """Another client asks for a build that may be waiting."""
        if ticket in self._waiting:
            self._waiting[ticket].add(client)
            self._clients.setdefault(client, OrderedDict())[ticket] = None

    def leave(self, ticket: Ticket) -> None:
        """Give up a place while it waits; harmless otherwise."""
        for client in self._waiting.pop(ticket, ()):
            tickets = self._clients[client]
            del tickets[ticket]
            if not tickets:
                del self._clients[client]

    def end(self) -> None:
        """A turn is over: the next one's comes."""
        if not self._clients:
            self.running -= 1
            return
        client, tickets = next(iter(self._clients.items()))
        self._clients.move_to_end(client)
        ticket = next(iter(tickets))
        self.leave(ticket)
        ticket.turn.callback(None)

    def _displace(self, client: str) -> None:
        """Make room for a client that has fewer waiting builds than another.

        :raises QueueFull: if none has more than it would have then.
        """
        greatest = max(self._clients.values(), key=len, default=OrderedDict[Ticket, None]())
        if len(greatest) <= len(self._clients.get(client, ())) + 1:
            raise QueueFull(self.waiting)
        ticket, full = next(reversed(greatest)), QueueFull(self.waiting)
        self.leave(ticket)
        ticket.turn.errback(full)
