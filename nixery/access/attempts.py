"""How long wrong passwords have a client wait: the longer, the more there were.

A client that has guessed wrong waits before its next guess is looked at, and is refused if that
would be long. A user whose password is guessed wrong from many places is not locked out: whoever
tries that user's password for the first time waits for some seconds at most, and whoever has given
the right one before does not wait at all (:mod:`nixery.access.passwords` remembers that).
"""

from collections.abc import Callable
from hashlib import sha256
from typing import TypeVar

import attrs

from nixery.recent import Recent

K = TypeVar("K")

FREE = 5
"""Wrong passwords that cost no time: people mistype."""
_FIRST = 0.5  # seconds, after one more; doubled by each other
LONGEST = 300.0
"""Seconds that a client waits at most after a wrong password."""
LONGEST_FOR_USER = 3.0
"""Seconds that a client waits at most for what others have guessed of a user."""
FORGOTTEN = 3600.0
"""Seconds after the last wrong password until they are forgotten."""
REMEMBERED = 10_000
"""Clients, and users, of which they are remembered: those that were wrong last."""


@attrs.frozen
class _Wrong:
    count: int
    since: float


class Attempts:
    """Counts wrong passwords by client and by user, whether there is such a user or not."""

    def __init__(self, now: Callable[[], float]) -> None:
        """
        :param now: seconds, from any moment on.
        """
        self._now = now
        self._clients: Recent[str, _Wrong] = Recent(now, REMEMBERED)
        self._users: Recent[bytes, _Wrong] = Recent(now, REMEMBERED)

    def wrong(self, client: str, user: str) -> None:
        """A client has given a wrong password for a user."""
        self._count(self._clients, client)
        self._count(self._users, _key(user))

    def right(self, client: str) -> None:
        """A client has given a right password that was not known to be right before.

        What was guessed of that user still counts.
        """
        self._clients.forget(client)

    def failures(self, client: str) -> int:
        """How many wrong passwords of a client are remembered."""
        found = self._clients.get(client, FORGOTTEN)
        return found.count if found is not None else 0

    def wait(self, client: str) -> float:
        """Seconds until a client's next password is looked at."""
        found = self._clients.get(client, FORGOTTEN)
        if found is None:
            return 0.0
        return max(0.0, found.since + _delay(found.count, LONGEST) - self._now())

    def wait_for_user(self, user: str) -> float:
        """Seconds that a client waits besides, which has not given this user's password before.

        They begin when the client comes: others can't make them longer by going on.
        """
        found = self._users.get(_key(user), FORGOTTEN)
        return 0.0 if found is None else _delay(found.count, LONGEST_FOR_USER)

    def _count(self, counts: Recent[K, _Wrong], key: K) -> None:
        before = counts.get(key, FORGOTTEN)
        counts.put(key, _Wrong(1 if before is None else before.count + 1, self._now()))


def _key(user: str) -> bytes:
    """What stands for a user, however long the name is that a client makes up."""
    return sha256(user.encode("utf-8", "surrogatepass")).digest()


def _delay(count: int, longest: float) -> float:
    """Seconds after so many wrong passwords."""
    beyond = min(count - FREE, 32)
    return 0.0 if beyond < 1 else min(longest, _FIRST * 2.0 ** (beyond - 1))
