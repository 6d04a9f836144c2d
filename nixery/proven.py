"""Work that is tried until it succeeds once."""

from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from nixery.coalesce import Coalescer

T = TypeVar("T")

PAUSE = 10.0
"""Seconds between two attempts."""


@attrs.frozen
class _Success(Generic[T]):
    value: T


class Proven(Generic[T]):
    """The result of some work: that of its first success is kept; a failure is given to all who
    ask within the next seconds, and then the work is tried again."""

    def __init__(self, clock: IReactorTime, work: Callable[[], Awaitable[T]]) -> None:
        self._clock = clock
        self._work = work
        self._working: Coalescer[None, T] = Coalescer()
        self._success: _Success[T] | None = None
        self._failure: tuple[float, Exception] | None = None

    @property
    def known(self) -> T | None:
        """The result, if there is one already."""
        return None if self._success is None else self._success.value

    async def get(self) -> T:
        """The result; all who wait for it share one attempt, which cancelling this does not end.

        :raises Exception: what the work raised.
        """
        if self._success is not None:
            return self._success.value
        if self._failure is not None and self._clock.seconds() - self._failure[0] < PAUSE:
            raise self._failure[1]
        return await self._working.join(None, self._try)

    def stop(self) -> Deferred[None]:
        """Cancel the attempt that is running; fires when it has ended."""
        return self._working.stop()

    async def _try(self) -> T:
        try:
            value = await self._work()
        except Exception as error:
            self._failure = (self._clock.seconds(), error)
            raise
        self._success = _Success(value)
        return value
