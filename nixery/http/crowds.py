"""Clients by how many connections they have: the one with the most is found at once."""

from collections import OrderedDict


class Crowds:
    """Clients of which something is wanted, by their sizes."""

    def __init__(self) -> None:
        self._sizes: dict[str, int] = {}
        self._by_size: dict[int, OrderedDict[str, None]] = {}

    def __len__(self) -> int:
        """How many clients there are."""
        return len(self._sizes)

    def put(self, client: str, size: int) -> None:
        """A client has another size from now on; with zero, nothing is wanted of it."""
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
