"""Checking passwords: slow on purpose, so in threads, a few at once, and remembered for a while."""

import hmac
import os
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from hashlib import sha256
from math import ceil
from typing import Any

import attrs
import bcrypt
from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThreadPool

from nixery.access.attempts import Attempts
from nixery.access.htpasswd import Passwords, cost_of, unknown
from nixery.access.slots import Slots
from nixery.coalesce import Coalescer
from nixery.model.errors import TooManyAttempts

KEPT = 4096
"""Credentials that are remembered to have been right."""
LIFETIME = 300
"""Seconds for which they are not checked again."""
MOST_WAITING = 8
"""Passwords of one client that wait to be checked."""
PATIENCE = 3.0
"""Seconds that an attempt is held at most, rather than refused."""
_SIGNIFICANT = 72  # bytes of a password, to bcrypt
_AT_ONCE = max(1, (os.cpu_count() or 1) // 2)


@attrs.define
class _Line:
    """The checks that one client waits for, one after the other."""

    turn: DeferredLock = attrs.field(factory=DeferredLock)
    length: int = 0


class PasswordChecker:
    """Says whether passwords are right.

    A client that guesses waits for its own guesses: they are checked one after the other, only so
    many may wait, and each that is wrong makes the next one wait longer; of the clients that wait,
    those with the fewest wrong passwords go first. Credentials that have been right before wait
    for none of that. A user who is not there takes as long as a wrong password of any other.
    """

    def __init__(self, reactor: Any, passwords: Callable[[], Passwords], kept: int = KEPT) -> None:
        """
        :param reactor: provides time and threads.
        :param passwords: those of the moment.
        :param kept: credentials that are remembered to have been right.
        """
        self._kept = kept
        self._reactor = reactor
        self._passwords = passwords
        self._secret = secrets.token_bytes(32)
        self._verified: OrderedDict[bytes, float] = OrderedDict()
        self._checks: Coalescer[bytes, bool] = Coalescer()
        self._lines: dict[str, _Line] = {}
        self._attempts = Attempts(lambda: self._reactor.seconds())
        self._slots = Slots(_AT_ONCE)

    async def check(self, user: str, password: bytes, client: str) -> bool:
        """Whether a password is a user's.

        :param client: the network that it comes from.
        :raises TooManyAttempts: if this client has to wait.
        """
        passwords, password = self._passwords(), password[:_SIGNIFICANT]
        hidden = passwords.hidden.get(user)
        mark = self._mark(user.encode("utf-8"), hidden or b"", password)
        until = self._verified.get(mark)
        if until is not None and self._reactor.seconds() < until:
            return True

        def look() -> Deferred[bool]:
            pool = self._reactor.getThreadPool()
            cost = passwords.cost
            return deferToThreadPool(self._reactor, pool, compare, hidden, cost, password)

        async def run() -> bool:
            if until is not None:  # it was right, and who guesses doesn't know it
                right = await self._slots.run(-1, look)
            else:
                right = await self._in_line(user, client, look)
            if right:
                self._remember(mark)
            return right

        # Who joins a check waits as long as it does, for the same answer.
        return await self._checks.join(mark, run)

    def _mark(self, *parts: bytes) -> bytes:
        """What verified credentials are remembered by: it tells nothing of them.

        The hidden password is one of the parts, so that a changed one counts at once.
        """
        whole = b"".join(b"%d:%s" % (len(part), part) for part in parts)
        return hmac.digest(self._secret, whole, sha256)

    def _remember(self, mark: bytes) -> None:
        self._verified[mark] = self._reactor.seconds() + LIFETIME
        self._verified.move_to_end(mark)
        while len(self._verified) > self._kept:
            self._verified.popitem(last=False)

    async def _in_line(self, user: str, client: str, look: Callable[[], Awaitable[bool]]) -> bool:
        """Check a password that may be a guess, in its client's turn."""
        self._refuse_early(client)
        line = self._lines.setdefault(client, _Line())
        if line.length >= MOST_WAITING:
            raise TooManyAttempts(1)
        line.length += 1
        try:
            await line.turn.acquire()
            try:
                return await self._in_turn(user, client, look)
            finally:
                line.turn.release()
        finally:
            line.length -= 1
            if line.length == 0:
                del self._lines[client]

    async def _in_turn(self, user: str, client: str, look: Callable[[], Awaitable[bool]]) -> bool:
        self._refuse_early(client)
        attempts = self._attempts
        wait = max(attempts.wait(client), attempts.wait_for_user(user))
        if wait > 0:
            await deferLater(self._reactor, wait, lambda: None)
        right = await self._slots.run(attempts.failures(client), look)
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
    """Whether a password is a user's; if it is not, that takes as long for every user. Blocks.

    bcrypt takes twice as long for each step of the cost, so one of every cost from the user's up
    to the greatest fills what is lacking.

    :param hidden: what stands for the user's password; none if there is no such user.
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
