"""Which connections are open: no more than allowed, of all clients and of each."""

from collections import Counter, OrderedDict
from collections.abc import Mapping
from typing import Protocol

import attrs
from twisted.internet.defer import Deferred

from nixery.http.crowds import Crowds, EndlessAnswers
from nixery.model.networks import bounded_networks, networks_of

NO_ROOM = "connections"
NO_ROOM_FOR_CLIENT = "client_connections"
MADE_ROOM = "idle_for_others"
MADE_ROOM_BY_STREAM = "stream_for_others"
MADE_ROOM_BY_ANSWER = "answer_for_others"
_UNBOUNDED = ""
"""The client of connections to which the limit of one client does not apply: of proxies."""
_PART = 4
"""Endless answers may have one connection in so many; a network, as much of the reserve."""
_FEW = 8
"""Connections of a client that does not crowd others; docker loads three layers at once."""


class Connection(Protocol):
    """A connection that can be closed in favour of another."""

    @property
    def sends(self) -> bool:
        """Whether an answer is on its way, which would be cut."""

    def make_room(self) -> None:
        """Close at once, in favour of another, even if an answer is cut."""

    def retire(self) -> None:
        """Close as soon as what the client has asked is answered."""


@attrs.define(eq=False)
class _Network:
    """The connections of one client, or of a network: each is fresh, rested or working.

    :param fresh: those on which no whole request has come yet, the oldest first.
    :param rested: idle ones that were of use, the one that is so longest first.
    :param working: those on which something is being answered, the longest first.
    :param streams: those of the latter whose answer may go on for ever.
    """

    fresh: OrderedDict[Connection, None] = attrs.Factory(OrderedDict)
    rested: OrderedDict[Connection, None] = attrs.Factory(OrderedDict)
    working: OrderedDict[Connection, None] = attrs.Factory(OrderedDict)
    streams: OrderedDict[Connection, None] = attrs.Factory(OrderedDict)

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.fresh) + len(self.rested) + len(self.working)

    @property
    def idle(self) -> Mapping[Connection, None]:
        """Those on which nothing is being answered, but fresh ones only if no other is."""
        return self.rested or self.fresh


_NONE = _Network()


class Connections:
    """All connections that are open. No step takes longer when there are more of them.

    When there is no room for a newcomer, others make some: those with endless answers while they
    are more than a part of all; then those that have rested, for which their clients have others
    in a moment; then those on which a crowd only waits; then the rest with endless answers; then
    those with any answer to a crowd. Where no client has many, a newcomer is admitted on the
    reserve: it gets one answer, and waits for nothing.
    """

    def __init__(self, most: int, most_each: int, refused: Counter[str], reserve: int = 0) -> None:
        """
        :param most: connections.
        :param most_each: of these, that one client may have.
        :param refused: counts by reason those that were turned away or had to make room.
        :param reserve: how many of them are kept for those who would be turned away.
        """
        self._most = most
        self._most_each = most_each
        self._refused = refused
        self._reserve = reserve
        self._open: dict[Connection, str | None] = {}
        self._working: set[Connection] = set()
        self._sizes = Crowds()
        self._with_rested = Crowds()
        self._streams = EndlessAnswers[Connection]()
        self._unawaited: set[Connection] = set()
        self._reserved: dict[Connection, str | None] = {}
        self._on_reserve: Counter[str | None] = Counter()
        self._networks: dict[str, _Network] = {}
        self._waiting: list[Deferred[None]] = []
        self._closed: list[Deferred[None]] = []

    @property
    def open(self) -> int:
        """How many there are."""
        return len(self._open)

    @property
    def idle(self) -> int:
        """On how many of them nothing is being answered."""
        return self.open - len(self._working)

    @property
    def streams(self) -> int:
        """How many have an endless answer."""
        return len(self._streams)

    def admit(self, connection: Connection, client: str | None) -> str | None:
        """Take a newcomer, which is idle.

        :param client: none for one to which the limit of one client does not apply.
        :return: which limit keeps it out, if one does.
        """
        for name, factor in bounded_networks(client) if client is not None else ():
            known = self._networks.get(name)
            if known is None or known.count < self._most_each * factor:
                continue
            if not self._free(known.streams or known.idle):
                self._refused[NO_ROOM_FOR_CLIENT] += 1
                return NO_ROOM_FOR_CLIENT
        if self.open >= self._most - self._reserve and not self._make_room(client):
            share = networks_of(client)[0] if client is not None else None
            if self._has_reserve(share):
                self._reserved[connection] = share
                self._on_reserve[share] += 1
            elif not (
                self._free(self._crowd(client).working) or self._free(self._own(client).idle)
            ):
                self._refused[NO_ROOM] += 1
                return NO_ROOM
        self._open[connection] = client
        for name, _ in bounded_networks(client or _UNBOUNDED):
            self._networks.setdefault(name, _Network()).fresh[connection] = None
        self._weigh(client)
        return None

    def refuses(self, client: str | None) -> bool:
        """Whether a newcomer is to be turned away at once, for next to nothing.

        That is so when there is no room, and its client has half of a fair share, and neither it
        nor who has more has a connection to give that has rested. Otherwise those who come by
        hundreds would take the places of each other before any of them has asked for something.
        """
        room = self._most - self._reserve
        if client is None or self.open < room or len(self._sizes) < 2:
            return False
        own = self._own(client)
        if 2 * own.count * len(self._sizes) <= room or own.rested or self._resting(client):
            return False
        self._refused[NO_ROOM] += 1
        return True

    def is_reserved(self, connection: Connection) -> bool:
        """Whether a connection came in on the reserve."""
        return connection in self._reserved

    def rests(self, connection: Connection) -> None:
        """Nothing is being answered on a connection, from now on or still."""
        if connection not in self._open:
            return
        self._ends(connection)
        if connection not in self._working:
            return
        for network in self._of(connection):
            del network.working[connection]
            network.rested[connection] = None
        self._working.remove(connection)
        self._weigh(self._open[connection])

    def rested_again(self, connection: Connection) -> None:
        """Something was answered at once on a connection on which nothing is being answered."""
        if connection not in self._open:
            return
        networks = self._of(connection)
        for network in networks:
            network.rested[connection] = None
            network.rested.move_to_end(connection)
        if connection in networks[0].fresh:
            for network in networks:
                del network.fresh[connection]
            self._weigh(self._open[connection])

    def works(self, connection: Connection) -> None:
        """Something is being answered on a connection."""
        if connection not in self._open or connection in self._working:
            return
        for network in self._of(connection):
            network.fresh.pop(connection, None)
            network.rested.pop(connection, None)
            network.working[connection] = None
        self._working.add(connection)
        self._weigh(self._open[connection])

    def never_ends(self, connection: Connection, client: str) -> None:
        """The answer on a connection may go on for ever: stopping does not wait for it.

        :param client: whom it is for.
        """
        if connection not in self._open:
            return
        self._streams.add(connection, networks_of(client)[0])
        for network in self._of(connection):
            network.streams[connection] = None
        self._unawaited.add(connection)
        self._look()

    def gone(self, connection: Connection) -> None:
        """A connection is closed, or about to be; this may be said again."""
        if connection not in self._open:
            return
        self.works(connection)
        self._working.remove(connection)
        self._ends(connection)
        for name, _ in bounded_networks(self._open[connection] or _UNBOUNDED):
            del self._networks[name].working[connection]
            if not self._networks[name].count:
                del self._networks[name]
        self._weigh(self._open.pop(connection))
        if connection in self._reserved:
            share = self._reserved.pop(connection)
            self._on_reserve[share] -= 1
            if not self._on_reserve[share]:
                del self._on_reserve[share]
        self._look()

    def retire(self) -> None:
        """Have all close, each as soon as what its client has asked is answered."""
        for connection in list(self._open):
            connection.retire()

    def answered(self) -> Deferred[None]:
        """Fires when none is open but those whose answer may go on for ever, or is forsaken."""
        return self._wait(self._waiting)

    def forsake(self) -> None:
        """Wait no longer for those on which no answer has begun to leave."""
        self._unawaited.update(each for each in self._open if not each.sends)
        self._look()

    def closed(self) -> Deferred[None]:
        """Fires when none is open."""
        return self._wait(self._closed)

    def _wait(self, waiting: list[Deferred[None]]) -> Deferred[None]:
        own: Deferred[None] = Deferred(lambda _: waiting.remove(own))
        waiting.append(own)
        self._look()
        return own

    def _look(self) -> None:
        due: list[Deferred[None]] = []
        if len(self._open) == len(self._unawaited):
            due, self._waiting[:] = [*self._waiting], []
        if not self._open:
            due, self._closed[:] = [*due, *self._closed], []
        for each in due:
            each.callback(None)

    def _of(self, connection: Connection) -> list[_Network]:
        """The networks that an open connection counts for."""
        names = bounded_networks(self._open[connection] or _UNBOUNDED)
        return [self._networks[name] for name, _ in names]

    def _ends(self, connection: Connection) -> None:
        """Forget the endless answer of a connection."""
        if connection in self._unawaited:
            self._unawaited.remove(connection)
            self._streams.remove(connection)
            for network in self._of(connection):
                network.streams.pop(connection, None)

    def _has_reserve(self, share: str | None) -> bool:
        """Whether there is some for a network, which gets no more than a part of it."""
        some = max(1, self._reserve // _PART) if share is not None else self._reserve
        return len(self._reserved) < self._reserve and self._on_reserve[share] < some

    def _weigh(self, client: str | None) -> None:
        """Take note of how many connections a client has now, and of what kinds."""
        name, own = bounded_networks(client or _UNBOUNDED)[-1][0], self._own(client)
        self._with_rested.put(name, own.count if own.rested else 0)
        if client is not None:
            self._sizes.put(name, own.count)

    def _make_room(self, client: str | None) -> bool:
        """Close a connection, if there is one that is of less use: of the client with the most.

        :param client: for whom; it is not for a client that has less.
        """
        streams = self._streams.of_the_most()
        if len(self._streams) > self._most // _PART:
            return self._free(streams)
        if self._free(self._resting(client)):
            return True
        if self._free(self._crowd(client).fresh) or self._free(streams):
            return True
        return self._free(self._crowd(client, _FEW).working)

    def _resting(self, client: str | None) -> Mapping[Connection, None]:
        """Connections that have rested, of the client with the most, if it has more than the one
        that they are closed for, or is the same one and has enough."""
        name = self._with_rested.largest()
        if name is None:
            return _NONE.rested
        largest, count = self._networks[name], self._count(client)
        if largest.count > count or (largest is self._own(client) and count > _FEW):
            return largest.rested
        return _NONE.rested

    def _crowd(self, client: str | None, few: int = 0) -> _Network:
        """The client with the most connections, if it has so many that one goes to a newcomer: more
        than twice as many as the newcomer's client has then.

        :param few: and more than this.
        """
        name = self._sizes.largest()
        crowd = self._networks[name] if name is not None else _NONE
        return crowd if crowd.count > max(few, 2 * (self._count(client) + 1)) else _NONE

    def _count(self, client: str | None) -> int:
        """How many connections count for a client; those of proxies are of many."""
        return self._own(client).count if client is not None else 0

    def _own(self, client: str | None) -> _Network:
        """The connections of a client, where it is one of many."""
        return self._networks.get(bounded_networks(client or _UNBOUNDED)[-1][0], _NONE)

    def _free(self, some: Mapping[Connection, None]) -> bool:
        """Close the first of some connections, if there is one."""
        oldest = next(iter(some), None)
        if oldest is None:
            return False
        if oldest not in self._working:
            self._refused[MADE_ROOM] += 1
        elif oldest in self._unawaited:
            self._refused[MADE_ROOM_BY_STREAM] += 1
        else:
            self._refused[MADE_ROOM_BY_ANSWER] += 1
        self.gone(oldest)
        oldest.make_room()
        return True
