"""Endless answers by the network that they are for."""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Generic, TypeVar

C = TypeVar("C")


class Streams(Generic[C]):
    """The connections with endless answers. The network with the most is found at once."""

    def __init__(self) -> None:
        self._network: dict[C, str] = {}
        self._streams: dict[str, OrderedDict[C, None]] = {}
        self._by_count: dict[int, OrderedDict[str, None]] = {}
        self._most = 0

    def __len__(self) -> int:
        return len(self._network)

    def add(self, connection: C, network: str) -> None:
        """A connection has such an answer, from now on or still."""
        if connection in self._network:
            return
        self._network[connection] = network
        streams = self._streams.setdefault(network, OrderedDict())
        streams[connection] = None
        self._counted(network, len(streams) - 1, len(streams))

    def remove(self, connection: C) -> None:
        """It has none, or none any more."""
        network = self._network.pop(connection, None)
        if network is None:
            return
        streams = self._streams[network]
        del streams[connection]
        self._counted(network, len(streams) + 1, len(streams))
        if not streams:
            del self._streams[network]

    def of_the_most(self) -> Mapping[C, None]:
        """Those of the network with the most, the oldest first."""
        if not self._most:
            return {}
        return self._streams[next(iter(self._by_count[self._most]))]

    def _counted(self, network: str, before: int, now: int) -> None:
        if before:
            del self._by_count[before][network]
            if not self._by_count[before]:
                del self._by_count[before]
        if now:
            self._by_count.setdefault(now, OrderedDict())[network] = None
        if now > self._most or self._most not in self._by_count:
            self._most = now
