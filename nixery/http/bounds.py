"""How much clients may have of the server: connections, requests, and memory for their answers."""

from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from nixery.http.connections import Connections
from nixery.model.limits import HttpLimits
from nixery.model.networks import bounded_networks
from nixery.model.reading import Reading
from nixery.model.service_errors import TooMuchUnread

TOO_MANY_REQUESTS = "client_requests"
TOO_MUCH_UNREAD = "unread"
LEAST = 8 * 1024
"""Bytes of a piece that any connection may have in memory; also what the kernel may leave of it
before the connection counts as one that takes no more."""
MOST = 256 * 1024
"""Bytes of the largest piece."""
_SHARE, _CLIENT_SHARE = 2, 4
"""The parts of the room that is left which one client's next pieces may take, and of that, which
one piece may."""
_RESERVE = 16
"""One connection in so many is kept for those who would be turned away."""


class RunningRequests:
    """The requests that are being answered: so many of each client."""

    def __init__(self, most_each: int, refused: Counter[str]) -> None:
        """
        :param most_each: requests of one client.
        :param refused: counts refusals by reason.
        """
        self._most_each = most_each
        self._refused = refused
        self._clients: Counter[str] = Counter()
        self.running = 0

    def begin(self, client: str, always: bool = False) -> bool:
        """Take a request, if its client, or the network of that, has not too many already.

        :param always: whether it is taken in any case.
        """
        if not always and not self.has_room(client):
            self._refused[TOO_MANY_REQUESTS] += 1
            return False
        self._clients.update(name for name, _ in bounded_networks(client))
        self.running += 1
        return True

    def has_room(self, client: str) -> bool:
        """Whether another request of a client would be taken."""
        networks = bounded_networks(client)
        return all(self._clients[name] < self._most_each * times for name, times in networks)

    def of(self, client: str) -> int:
        """How many requests of a client are being answered."""
        return self._clients[client]

    def end(self, client: str) -> None:
        """A request that was taken has its answer, or its client has left."""
        self.running -= 1
        for name, _ in bounded_networks(client):
            self._clients[name] -= 1
            if not self._clients[name]:
                del self._clients[name]


class _Count:
    """Bytes of each client."""

    def __init__(self) -> None:
        self.total = 0
        self.by_client: Counter[str] = Counter()

    @contextmanager
    def counting(self, client: str, size: int) -> Iterator[None]:
        """Count some for the length of a block."""
        self._add(client, size)
        try:
            yield
        finally:
            self._add(client, -size)
            if not self.by_client[client]:
                del self.by_client[client]

    def _add(self, client: str, size: int) -> None:
        self.total += size
        self.by_client[client] += size


class Untaken:
    """The bytes in memory that clients have not taken yet: bounded for each, and for all together.

    An answer that is sent in pieces, a blob or the events of a build, waits for no other client: a
    connection may always have a small piece in memory, and larger ones as long as there is room.
    An answer that is in memory as a whole, a page or a document, is refused where there is none.
    """

    def __init__(self, most: int, most_each: int, refused: Counter[str]) -> None:
        """
        :param most: bytes of pieces, and as many again of wholes; small pieces, and the fair
            shares of clients that come late, are on top.
        :param most_each: of these, that one client may have.
        :param refused: counts refusals by reason.
        """
        self._most = most
        self._most_each = most_each
        self._refused = refused
        self._pieces, self._wholes = _Count(), _Count()

    @property
    def total(self) -> int:
        """Bytes of all that waits, but for what every connection may have."""
        return self._pieces.total + self._wholes.total

    def room(self, client: str) -> int:
        """The bytes that the next piece for a client may have.

        A fair share is left to each client whatever others have not taken, or who reads would be
        as slow as who doesn't; so there may be twice the bound in all, never more.
        """
        by_client = self._pieces.by_client
        own = by_client[client]
        fair = min(self._most_each, self._most // (len(by_client) + (not own))) - own
        free = min((self._most - self._pieces.total) // _SHARE, self._most_each - own)
        room = max(fair, free) // _CLIENT_SHARE
        return max(LEAST, min(MOST, room // LEAST * LEAST))

    def piece(self, client: str, size: int) -> AbstractContextManager[None]:
        """Count a piece for the length of a block: what it has more than a small one."""
        return self._pieces.counting(client, max(0, size - LEAST))

    def whole(self, client: str, size: int) -> AbstractContextManager[None]:
        """Count what is in memory as a whole for the length of a block.

        A client that has nothing of the kind may have one that is larger than its bound.

        :raises TooMuchUnread: if there is no room for it.
        """
        own = self._wholes.by_client[client]
        if self._wholes.total + size > self._most or (own and own + size > self._most_each):
            self._refused[TOO_MUCH_UNREAD] += 1
            raise TooMuchUnread()
        return self._wholes.counting(client, size)


class Bounds:
    """All that clients may have of the server, and how much of it they have.

    :ivar refused: how often something was refused, or a connection closed early, by reason.
    :ivar sending: the connections on which the kernel sends a file.
    """

    sending = 0

    def __init__(self, limits: HttpLimits) -> None:
        self.limits = limits
        self.refused: Counter[str] = Counter()
        most, reserve = limits.connections, limits.connections // _RESERVE
        self.connections = Connections(most, limits.client_connections, self.refused, reserve)
        self.requests = RunningRequests(limits.client_requests, self.refused)
        self.untaken = Untaken(limits.unread, limits.client_unread, self.refused)

    def readings(self) -> list[Reading]:
        """The metrics of what clients do."""
        return [
            Reading(
                "nixery_connections", "Connections that are open.", lambda: self.connections.open
            ),
            Reading(
                "nixery_requests_running",
                "Requests that are being answered.",
                lambda: self.requests.running,
            ),
            Reading(
                "nixery_unread_bytes",
                "Bytes in memory that clients have not taken yet.",
                lambda: self.untaken.total,
            ),
            Reading(
                "nixery_refused",
                "Requests and connections that were refused for a bound.",
                lambda: self.refused,
                "reason",
                total=True,
            ),
        ]
