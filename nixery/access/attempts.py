"""How long wrong passwords have a client wait: the longer, the more there were.

A client that has guessed wrong waits before its next guess is looked at, and is refused if that
would be long. A user whose password is guessed wrong from many places is not locked out: whoever
tries that user's password for the first time waits for some seconds at most, and whoever has given
the right one before does not wait at all (:mod:`nixery.access.passwords` remembers that).
"""

from collections import OrderedDict
from collections.abc import Callable
from hashlib import sha256
from typing import TypeVar

import attrs

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
        self._clients: OrderedDict[str, _Wrong] = OrderedDict()
        self._users: OrderedDict[bytes, _Wrong] = OrderedDict()

    def wrong(self, client: str, user: str) -> None:
        """A client has given a wrong password for a user."""
        self._count(self._clients, client)
        self._count(self._users, _key(user))

    def right(self, client: str) -> None:
        """A client has given a right password that was not known to be right before.

        What was guessed of that user still counts.
        """
        self._clients.pop(client, None)

    def failures(self, client: str) -> int:
        """How many wrong passwords of a client are remembered."""
        found = self._recent(self._clients, client)
        return found.count if found is not None else 0

    def wait(self, client: str) -> float:
        """Seconds until a client's next password is looked at."""
        found = self._recent(self._clients, client)
        if found is None:
            return 0.0
        return max(0.0, found.since + _delay(found.count, LONGEST) - self._now())

    def wait_for_user(self, user: str) -> float:
        """Seconds that a client waits besides, which has not given this user's password before.

        They begin when the client comes: others can't make them longer by going on.
        """
        found = self._recent(self._users, _key(user))
        return 0.0 if found is None else _delay(found.count, LONGEST_FOR_USER)

    def _count(self, counts: OrderedDict[K, _Wrong], key: K) -> None:
        before = self._recent(counts, key)
        counts[key] = _Wrong(1 if before is None else before.count + 1, self._now())
        counts.move_to_end(key)
        if len(counts) > REMEMBERED:
            counts.popitem(last=False)

    def _recent(self, counts: OrderedDict[K, _Wrong], key: K) -> _Wrong | None:
        found = counts.get(key)
        if found is None or self._now() - found.since >= FORGOTTEN:
            counts.pop(key, None)
            return None
        return found


def _key(user: str) -> bytes:
    """What stands for a user, however long the name is that a client makes up."""
    return sha256(user.encode("utf-8", "surrogatepass")).digest()


def _delay(count: int, longest: float) -> float:
    """Seconds after so many wrong passwords."""
    beyond = min(count - FREE, 32)
    return 0.0 if beyond < 1 else min(longest, _FIRST * 2.0 ** (beyond - 1))
