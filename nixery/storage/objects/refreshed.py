"""What has to be fetched anew from time to time, as access tokens: once for all, ahead of time."""

import time
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred, TimeoutError
from twisted.logger import Logger

from nixery.coalesce import Coalescer
from nixery.reactor import IReactor, in_thread
from nixery.repeats import Repeats
from nixery.storage.objects.object_store import Refused

_AHEAD = 300.0  # seconds before its expiry that a value is replaced
_LAST_CALL = 30.0  # seconds before its expiry that a value is used for the last time
_PAUSE = 10.0  # seconds between two attempts ahead of time
_PATIENCE = 30.0  # seconds that a request waits for a value
LONGEST_FRESH = 2 * _AHEAD
"""Seconds that a value counts as good for which does not say when it expires."""

T = TypeVar("T")


class Refreshed(Generic[T]):
    """A value that is fetched in a thread."""

    _log = Logger()

    def __init__(
        self,
        reactor: IReactor,
        what: str,
        fetch: Callable[[], tuple[T, float]],
        now: Callable[[], float] = time.time,
    ) -> None:
        """
        :param what: for messages: ``access token from Google``.
        :param fetch: gives a value, and when it expires in seconds since the epoch; may block, and
            raise ``PassingFault`` and ``Refused``.
        :param now: seconds since the epoch.
        """
        self._reactor = reactor
        self._what = what
        self._fetch = fetch
        self._now = now
        self._value: T | None = None
        self._expiry = 0.0
        self._next_attempt = 0.0
        self._repeats = Repeats(reactor.seconds)
        self._refreshing: Coalescer[None, T] = Coalescer()

    async def get(self) -> T:
        """A value that is good for a while.

        :raises PassingFault: if there is none now.
        :raises Refused: if there is none to be had.
        """
        left = self._expiry - self._now()
        if self._value is None or left < _LAST_CALL:
            return await self._wait()
        if left < _AHEAD and self._now() >= self._next_attempt:
            self._refresh().addErrback(self._failed_ahead)
        return self._value

    def reject(self, value: T) -> None:
        """Note that a value was not accepted: it is not given out again."""
        if value == self._value:
            self._value = None

    async def _wait(self) -> T:
        try:
            return await self._refresh().addTimeout(_PATIENCE, self._reactor)
        except TimeoutError:
            raise Refused(f"there was no {self._what} within {_PATIENCE:g} s") from None

    def _refresh(self) -> Deferred[T]:
        return self._refreshing.join(None, self._refresh_now)

    async def _refresh_now(self) -> T:
        self._next_attempt = self._now() + _PAUSE
        value, self._expiry = await in_thread(self._reactor, self._fetch)
        self._value = value
        return value

    def _failed_ahead(self, failure: Any) -> None:
        text = "the {what} could not be replaced, and is still good: {reason}"
        reason = str(failure.value)
        self._repeats.warn(self._log, reason, text, what=self._what, reason=reason)
