"""How long clients wait after wrong passwords: the longer, the more there were.

A client that has guessed wrong waits before its next guess is checked, and is refused if that
would take long. A user whose password is guessed from many places is not locked out: clients that
try that user's password for the first time wait for some seconds at most, and those that have given
the right one before do not wait at all (:mod:`nixery.access.passwords` remembers that).
"""

from collections.abc import Callable
from hashlib import sha256

import attrs

from nixery.recent import Recent

FREE = 5
"""Wrong passwords that cost no time: people mistype."""
_FIRST = 0.5  # seconds, after one more; doubled by each other
LONGEST = 300.0
"""The most seconds that a client waits after a wrong password."""
LONGEST_FOR_USER = 3.0
"""The most seconds that a client waits for what others have guessed of a user."""
FORGOTTEN = 3600.0
"""Seconds after the last wrong password until they are forgotten."""
REMEMBERED = 10_000
"""Clients, and users, whose wrong passwords are remembered."""


@attrs.frozen
class _Wrong:
    count: int = 0
    since: float = 0.0


_NONE = _Wrong()


class Attempts:
    """Counts wrong passwords by client and by user, whether that user exists or not."""

    def __init__(self, now: Callable[[], float]) -> None:
        """
        :param now: seconds, from any moment on.
        """
        self._now = now
        self._clients: Recent[str, _Wrong] = Recent(now, REMEMBERED)
        self._users: Recent[bytes, _Wrong] = Recent(now, REMEMBERED)

    def wrong(self, client: str, user: str) -> None:
        """Note that a client has given a wrong password for a user."""
        count = self.failures(client) + 1
        self._clients.put(client, _Wrong(count, self._now()))
        count = self._of_user(user).count + 1
        self._users.put(_key(user), _Wrong(count, self._now()))

    def right(self, client: str) -> None:
        """Note that a client has given a right password that was not known to be right.

        Guesses of that user still count.
        """
        self._clients.forget(client)

    def failures(self, client: str) -> int:
        """The number of a client's wrong passwords."""
        return self._of_client(client).count

    def wait(self, client: str) -> float:
        """Seconds until a client's next password is checked."""
        found = self._of_client(client)
        return max(0.0, found.since + _delay(found.count, LONGEST) - self._now())

    def wait_for_user(self, user: str) -> float:
        """Seconds that a client waits in addition, if it has not given this user's password before.

        They begin when the client asks: others can't make them longer by going on.
        """
        return _delay(self._of_user(user).count, LONGEST_FOR_USER)

    def _of_client(self, client: str) -> _Wrong:
        return self._clients.get(client, FORGOTTEN) or _NONE

    def _of_user(self, user: str) -> _Wrong:
        return self._users.get(_key(user), FORGOTTEN) or _NONE


def _key(user: str) -> bytes:
    """Stands for a user, however long the name is that a client makes up."""
    return sha256(user.encode("utf-8", "surrogatepass")).digest()


def _delay(count: int, longest: float) -> float:
    """Seconds after so many wrong passwords."""
    beyond = min(count - FREE, 32)
    return 0.0 if beyond < 1 else min(longest, _FIRST * 2.0 ** (beyond - 1))
