"""Work that is done one at a time for each key."""

from twisted.internet.defer import DeferredLock


class Turn:
    """The right to go on, until it is ended."""

    def __init__(self, turns: "Turns", key: str) -> None:
        self._turns = turns
        self._key: str | None = key

    def end(self) -> None:
        """Let the next one go on; harmless when it was ended before."""
        key, self._key = self._key, None
        if key is not None:
            self._turns.end(key)


class Turns:
    """Turns by key; what nobody holds or waits for costs nothing."""

    def __init__(self) -> None:
        self._locks: dict[str, tuple[DeferredLock, int]] = {}

    def __len__(self) -> int:
        return len(self._locks)

    async def take(self, key: str) -> Turn:
        """Wait for one's turn."""
        lock, users = self._locks.get(key, (DeferredLock(), 0))
        self._locks[key] = (lock, users + 1)
        try:
            await lock.acquire()
        except BaseException:
            self._leave(key)
            raise
        return Turn(self, key)

    def end(self, key: str) -> None:
        """End the turn of a key."""
        lock, _ = self._locks[key]
        self._leave(key)
        lock.release()

    def _leave(self, key: str) -> None:
        lock, users = self._locks.pop(key)
        if users > 1:
            self._locks[key] = (lock, users - 1)
