"""Checking passwords: slow by design, so in threads, a few at once, and remembered for a while."""

import hmac
import os
import secrets
from collections.abc import Awaitable, Callable
from hashlib import sha256
from math import ceil

import bcrypt
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from nixery.access.attempts import Attempts
from nixery.access.htpasswd import Passwords, cost_of, unknown
from nixery.coalesce import Coalescer
from nixery.model.request_errors import TooManyAttempts
from nixery.reactor import IReactor, in_thread
from nixery.recent import Recent
from nixery.slots import Slots, Turns

KEPT = 4096
"""Right credentials that are remembered."""
LIFETIME = 300
"""Seconds for which they are not checked again."""
MOST_WAITING = 8
"""Passwords of one client that may wait to be checked."""
PATIENCE = 3.0
"""The most seconds that an attempt is held; it is refused if it would take longer."""
_SIGNIFICANT = 72  # bytes of a password, to bcrypt
_AT_ONCE = max(1, (os.cpu_count() or 1) // 2)


class PasswordChecker:
    """Checks passwords.

    :ivar passwords: gives the current ones.

    A client that guesses waits for its own guesses: they are checked one after the other, a few may
    wait, and each wrong one makes the next wait longer; of waiting clients, those with the fewest
    wrong passwords go first. Credentials that have been right before do not wait. An unknown user
    takes as long as a wrong password of any other.
    """

    def __init__(
        self, reactor: IReactor, passwords: Callable[[], Passwords], kept: int = KEPT
    ) -> None:
        """
        :param passwords: gives the current ones.
        :param kept: number of right credentials that are remembered.
        """
        self._reactor = reactor
        self.passwords = passwords
        self._secret = secrets.token_bytes(32)
        self._verified: Recent[bytes, bool] = Recent(lambda: reactor.seconds(), kept)
        self._checks: Coalescer[bytes, bool] = Coalescer()
        self._turns: Turns[str] = Turns()
        self._attempts = Attempts(lambda: self._reactor.seconds())
        self._slots = Slots(_AT_ONCE)

    async def check(self, user: str, password: bytes, client: str) -> bool:
        """Whether a password is a user's.

        :param client: the client's network.
        :raises TooManyAttempts: if this client has to wait.
        """
        passwords, password = self.passwords(), password[:_SIGNIFICANT]
        hidden = passwords.hidden.get(user)
        mark = self._mark(user.encode("utf-8"), hidden or b"", password)
        if self._verified.get(mark, LIFETIME):
            return True
        was_right = self._verified.get(mark) is not None

        def look() -> Deferred[bool]:
            return in_thread(self._reactor, compare, hidden, passwords.cost, password)

        async def run() -> bool:
            if was_right:  # so this is no guess
                with await self._slots.take(rank=-1):
                    right = await look()
            else:
                right = await self._in_line(user, client, look)
            if right:
                self._verified.put(mark, True)
            return right

        # The same password, sent again meanwhile, waits for the same check.
        return await self._checks.join(mark, run)

    def _mark(self, *parts: bytes) -> bytes:
        """The key by which credentials are remembered, which reveals nothing of them.

        The bcrypt entry is one of the parts, so that a changed password counts at once.
        """
        whole = b"".join(b"%d:%s" % (len(part), part) for part in parts)
        return hmac.digest(self._secret, whole, sha256)

    async def _in_line(self, user: str, client: str, look: Callable[[], Awaitable[bool]]) -> bool:
        """Check a password that may be a guess, after the client's earlier ones."""
        self._refuse_early(client)
        if self._turns.users(client) >= MOST_WAITING:
            raise TooManyAttempts(1)
        with await self._turns.take(client):
            return await self._in_turn(user, client, look)

    async def _in_turn(self, user: str, client: str, look: Callable[[], Awaitable[bool]]) -> bool:
        self._refuse_early(client)
        attempts = self._attempts
        wait = max(attempts.wait(client), attempts.wait_for_user(user))
        if wait > 0:
            await deferLater(self._reactor, wait, lambda: None)
        with await self._slots.take(rank=attempts.failures(client)):
            right = await look()
        if right:
            attempts.right(client)
        else:
            attempts.wrong(client, user)
        return right

    def _refuse_early(self, client: str) -> None:
        wait = self._attempts.wait(client)
        if wait > PATIENCE:
            raise TooManyAttempts(ceil(round(wait, 3)))


def compare(hidden: bytes | None, cost: int, password: bytes) -> bool:
    """Whether a password is a user's; a wrong one takes as long for every user. Blocks.

    bcrypt takes twice as long for each step of the cost: one check of every cost from the user's up
    to the greatest makes up for the difference.

    :param hidden: the user's bcrypt entry; None if there is no such user.
    :param cost: the greatest of all users' costs.
    """
    try:
        if bcrypt.checkpw(password, hidden or unknown(cost)):
            return hidden is not None
    except ValueError:  # a NUL in the password
        return False
    for missing in range(cost_of(hidden) if hidden else cost, cost):
        bcrypt.checkpw(password, unknown(missing))
    return False
