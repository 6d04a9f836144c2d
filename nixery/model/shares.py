"""Counts of what clients hold, to find those with more than a fair share: pure."""

from collections import Counter
from collections.abc import Iterable

from nixery.model.networks import networks_of


class Shares:
    """Counts things by client, and by each network that clients are in.

    What several clients have together counts for each of them, and once for each network.
    """

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def __contains__(self, network: str) -> bool:
        return network in self._counts

    def add(self, clients: Iterable[str]) -> None:
        """These have one more, together."""
        self._counts.update(_union(clients))

    def remove(self, clients: Iterable[str]) -> None:
        """These have one less."""
        for network in _union(clients):
            self._counts[network] -= 1
            if not self._counts[network]:
                del self._counts[network]

    def of(self, client: str) -> tuple[int, ...]:
        """How much a client has, by network, the widest first."""
        return tuple(self._counts[network] for network in networks_of(client))

    def owes(self, rich: str, poor: str) -> bool:
        """Whether it is fairer if one client has one less and another one more.

        Those decide that are the widest which the two do not have in common.
        """
        for theirs, own in zip(networks_of(rich), networks_of(poor), strict=False):
            if theirs != own:
                return self._counts[theirs] > self._counts[own] + 1
        return False


def _union(clients: Iterable[str]) -> set[str]:
    return {network for client in clients for network in networks_of(client)}
