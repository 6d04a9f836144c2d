"""Checking passwords: slow on purpose, so in threads, a few at once, and remembered for a while."""

import hmac
import os
import secrets
from collections import OrderedDict
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import attrs
import bcrypt
from twisted.internet.defer import DeferredLock, DeferredSemaphore
from twisted.internet.threads import deferToThreadPool

from nixery.access.htpasswd import Passwords
from nixery.coalesce import Coalescer
from nixery.model.errors import TooManyAttempts

KEPT = 1024
"""Verified credentials that are remembered."""
LIFETIME = 300
"""Seconds that they are."""
MOST_WAITING = 8
"""Passwords of one client that wait to be checked."""
_SIGNIFICANT = 72  # bytes of a password, to bcrypt
_AT_ONCE = max(1, (os.cpu_count() or 1) // 2)


@attrs.define
class _Line:
    """The checks that one client waits for, one after the other."""

    turn: DeferredLock = attrs.field(factory=DeferredLock)
    length: int = 0


class PasswordChecker:
    """Says whether passwords are right.

    Who guesses waits for his own guesses: those of one client are checked one after the other,
    and only so many may wait. A user who is not there takes as long as a wrong password.
    """

    def __init__(self, reactor: Any, passwords: Callable[[], Passwords]) -> None:
        """
        :param reactor: provides time and threads.
        :param passwords: those of the moment.
        """
        self._reactor = reactor
        self._passwords = passwords
        self._secret = secrets.token_bytes(32)
        self._verified: OrderedDict[bytes, float] = OrderedDict()
        self._checks: Coalescer[bytes, bool] = Coalescer()
        self._lines: dict[str, _Line] = {}
        self._slots = DeferredSemaphore(_AT_ONCE)

    async def check(self, user: str, password: bytes, client: str) -> bool:
        """Whether a password is a user's.

        :param client: the address that it comes from.
        :raises TooManyAttempts: if too many of this client's are waiting.
        """
        passwords = self._passwords()
        hidden = passwords.hidden.get(user)
        mark = self._mark(user.encode("utf-8"), hidden or b"", password)
        if self._is_verified(mark):
            return True

        async def run() -> bool:
            return await self._check(hidden, passwords.cost, password, client, mark)

        return await self._checks.join(mark, run)

    def _mark(self, *parts: bytes) -> bytes:
        """What verified credentials are remembered by: it tells nothing of them.

        The hidden password is one of the parts, so that a changed one counts at once.
        """
        whole = b"".join(b"%d:%s" % (len(part), part) for part in parts)
        return hmac.digest(self._secret, whole, sha256)

    def _is_verified(self, mark: bytes) -> bool:
        until = self._verified.get(mark)
        return until is not None and self._reactor.seconds() < until

    def _remember(self, mark: bytes) -> None:
        self._verified[mark] = self._reactor.seconds() + LIFETIME
        self._verified.move_to_end(mark)
        while len(self._verified) > KEPT:
            self._verified.popitem(last=False)

    async def _check(
        self, hidden: bytes | None, cost: int, password: bytes, client: str, mark: bytes
    ) -> bool:
        line = self._lines.setdefault(client, _Line())
        if line.length >= MOST_WAITING:
            raise TooManyAttempts()
        line.length += 1
        try:
            right: bool = await line.turn.run(
                self._slots.run, self._in_thread, hidden, cost, password
            )
        finally:
            line.length -= 1
            if line.length == 0:
                del self._lines[client]
        if right:
            self._remember(mark)
        return right

    def _in_thread(self, hidden: bytes | None, cost: int, password: bytes) -> Any:
        pool = self._reactor.getThreadPool()
        return deferToThreadPool(self._reactor, pool, self._compare, hidden, cost, password)

    def _compare(self, hidden: bytes | None, cost: int, password: bytes) -> bool:
        """Compare by bcrypt. Blocks."""
        password = password[:_SIGNIFICANT]
        try:
            if hidden is None:
                bcrypt.hashpw(password, bcrypt.gensalt(cost))
                return False
            return bcrypt.checkpw(password, hidden)
        except ValueError:  # a NUL in the password
            return False
