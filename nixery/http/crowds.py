"""Clients by how many connections they have, and by how many endless answers."""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Generic, TypeVar

C = TypeVar("C")


class Crowds:
    """Clients by their sizes: the largest is found at once."""

    def __init__(self) -> None:
        self._sizes: dict[str, int] = {}
        self._by_size: dict[int, OrderedDict[str, None]] = {}

    def __len__(self) -> int:
        """How many clients there are."""
        return len(self._sizes)

    def put(self, client: str, size: int) -> None:
        """Set the size of a client; zero forgets it."""
        before = self._sizes.get(client, 0)
        if before == size:
            return
        if before:
            del self._sizes[client]
            del self._by_size[before][client]
            if not self._by_size[before]:
                del self._by_size[before]
        if size:
            self._sizes[client] = size
            self._by_size.setdefault(size, OrderedDict())[client] = None

    def largest(self) -> str | None:
        """The client with the most; of several, the one that has had so many for longest."""
        if not self._by_size:
            return None
        # Different sizes are few: with 4000 connections, no more than 89.
        return next(iter(self._by_size[max(self._by_size)]))


class EndlessAnswers(Generic[C]):
    """The connections with endless answers, by the networks that these are for."""

    def __init__(self) -> None:
        self._network: dict[C, str] = {}
        self._connections: dict[str, OrderedDict[C, None]] = {}
        self._sizes = Crowds()

    def __len__(self) -> int:
        return len(self._network)

    def add(self, connection: C, network: str) -> None:
        """A connection has such an answer, from now on or still."""
        if connection not in self._network:
            self._network[connection] = network
            self._connections.setdefault(network, OrderedDict())[connection] = None
            self._sizes.put(network, len(self._connections[network]))

    def remove(self, connection: C) -> None:
        """A connection has no such answer, or its answer has ended."""
        network = self._network.pop(connection, None)
        if network is not None:
            del self._connections[network][connection]
            self._sizes.put(network, len(self._connections[network]))
            if not self._connections[network]:
                del self._connections[network]

    def of_the_most(self) -> Mapping[C, None]:
        """Those of the network with the most, the oldest first."""
        network = self._sizes.largest()
        return {} if network is None else self._connections[network]
