"""How many connections and requests there are, of all clients and of each: no more than allowed."""

from collections import Counter, OrderedDict
from typing import Protocol

import attrs
from twisted.internet.defer import Deferred

from nixery.model.limits import HttpLimits
from nixery.web.untaken import Untaken

NO_ROOM = "connections"
NO_ROOM_FOR_CLIENT = "client_connections"
TOO_MANY_REQUESTS = "client_requests"
MADE_ROOM = "idle_for_others"


class Connection(Protocol):
    """What is asked of a connection here."""

    def make_room(self) -> None:
        """Close at once, in favour of another; nothing is being answered on this one."""

    def retire(self) -> None:
        """Close as soon as what the client has asked is answered."""


@attrs.define(eq=False)
class _Client:
    """One client's connections.

    :param count: of all of them.
    :param idle: those on which nothing is being answered, the one that is so longest first.
    """

    count: int = 0
    idle: OrderedDict[Connection, None] = attrs.Factory(OrderedDict)


class Connections:
    """All connections that are open. No step takes longer when there are more of them."""

    def __init__(self, most: int, most_each: int, refused: Counter[str]) -> None:
        """
        :param most: connections.
        :param most_each: of these, that one client may have.
        :param refused: where it is counted who was turned away or had to make room.
        """
        self._most = most
        self._most_each = most_each
        self._refused = refused
        self._open: dict[Connection, str | None] = {}
        self._idle: OrderedDict[Connection, None] = OrderedDict()
        self._endless: set[Connection] = set()
        self._clients: dict[str, _Client] = {}
        self._waiting: list[Deferred[None]] = []

    @property
    def open(self) -> int:
        """How many there are."""
        return len(self._open)

    @property
    def idle(self) -> int:
        """On how many of them nothing is being answered."""
        return len(self._idle)

    def admit(self, connection: Connection, client: str | None) -> str | None:
        """Take a newcomer, which is idle; who is idle longest makes room if there is none.

        :param client: none for whom the limit of one client is not meant.
        :return: which limit keeps it out, if one does.
        """
        known = self._clients.get(client) if client is not None else None
        if known is not None and known.count >= self._most_each and not self._free(known.idle):
            self._refused[NO_ROOM_FOR_CLIENT] += 1
            return NO_ROOM_FOR_CLIENT
        if self.open >= self._most and not self._free(self._idle):
            self._refused[NO_ROOM] += 1
            return NO_ROOM
        self._open[connection] = client
        if client is not None:
            self._clients.setdefault(client, _Client()).count += 1
        self.rests(connection)
        return None

    def rests(self, connection: Connection) -> None:
        """Nothing is being answered on a connection, from now on or still."""
        if connection not in self._open:
            return
        self._endless.discard(connection)
        self._idle.setdefault(connection)
        client = self._open[connection]
        if client is not None:
            self._clients[client].idle.setdefault(connection)

    def works(self, connection: Connection) -> None:
        """Something is being answered on a connection."""
        self._idle.pop(connection, None)
        client = self._open.get(connection)
        if client is not None:
            self._clients[client].idle.pop(connection, None)

    def never_ends(self, connection: Connection) -> None:
        """What is being answered on a connection may go on for ever: nobody waits for that."""
        if connection in self._open:
            self._endless.add(connection)
            self._look()

    def gone(self, connection: Connection) -> None:
        """A connection is closed, or about to be; this may be said again."""
        self.works(connection)
        self._endless.discard(connection)
        client = self._open.pop(connection, None)
        if client is not None:
            self._clients[client].count -= 1
            if not self._clients[client].count:
                del self._clients[client]
        self._look()

    def retire(self) -> Deferred[None]:
        """Have all close, each as soon as what its client has asked is answered.

        :return: fires when no more are open, but those whose answer may go on for ever.
        """
        for connection in list(self._open):
            connection.retire()
        waiting: Deferred[None] = Deferred(lambda _: self._waiting.remove(waiting))
        self._waiting.append(waiting)
        self._look()
        return waiting

    def _look(self) -> None:
        if len(self._open) == len(self._endless):
            waiting, self._waiting = self._waiting, []
            for each in waiting:
                each.callback(None)

    def _free(self, idle: OrderedDict[Connection, None]) -> bool:
        """Close the first of some connections, if there is one."""
        oldest = next(iter(idle), None)
        if oldest is None:
            return False
        self.gone(oldest)
        self._refused[MADE_ROOM] += 1
        oldest.make_room()
        return True


class Requests:
    """The requests that are being answered."""

    def __init__(self, most_each: int, refused: Counter[str]) -> None:
        """
        :param most_each: requests of one client.
        :param refused: where it is counted who was turned away.
        """
        self._most_each = most_each
        self._refused = refused
        self._clients: Counter[str] = Counter()
        self.running = 0

    def begin(self, client: str, always: bool = False) -> bool:
        """Take a request, if its client has not too many already.

        :param always: whether it is taken in any case.
        """
        if not always and self._clients[client] >= self._most_each:
            self._refused[TOO_MANY_REQUESTS] += 1
            return False
        self._clients[client] += 1
        self.running += 1
        return True

    def of(self, client: str) -> int:
        """How many requests of a client are being answered."""
        return self._clients[client]

    def end(self, client: str) -> None:
        """A request that was taken has its answer, or its client has left."""
        self.running -= 1
        self._clients[client] -= 1
        if not self._clients[client]:
            del self._clients[client]


class Bounds:
    """What clients may ask of the server, and how much of it they do.

    :ivar refused: how often something was refused, or a connection closed early, by reason.
    """

    def __init__(self, limits: HttpLimits) -> None:
        self.limits = limits
        self.refused: Counter[str] = Counter()
        self.connections = Connections(limits.connections, limits.client_connections, self.refused)
        self.requests = Requests(limits.client_requests, self.refused)
        self.untaken = Untaken(limits.unread, limits.client_unread, self.refused)
