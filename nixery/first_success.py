"""The result of some work that is tried until it succeeds, and then kept."""

from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from nixery.coalesce import Coalescer

T = TypeVar("T")

PAUSE = 10.0
"""Seconds between two tries."""


@attrs.frozen
class _Success(Generic[T]):
    value: T


class FirstSuccess(Generic[T]):
    """The result of some work: that of its first success stays; a failure is told to all who ask
    in the next seconds, and then it is tried again."""

    def __init__(self, clock: IReactorTime, work: Callable[[], Awaitable[T]]) -> None:
        self._clock = clock
        self._work = work
        self._working: Coalescer[None, T] = Coalescer()
        self._success: _Success[T] | None = None
        self._failure: tuple[float, Exception] | None = None

    @property
    def known(self) -> T | None:
        """The result, if there is one by now."""
        return None if self._success is None else self._success.value

    async def get(self) -> T:
        """The result; all who wait for it share the same try.

        Cancelling this ends no try.

        :raises Exception: what the work has raised.
        """
        if self._success is not None:
            return self._success.value
        if self._failure is not None and self._clock.seconds() - self._failure[0] < PAUSE:
            raise self._failure[1]
        return await self._working.join(None, self._try)

    def stop(self) -> Deferred[None]:
        """Give it up; fires when it is."""
        return self._working.stop()

    async def _try(self) -> T:
        try:
            value = await self._work()
        except Exception as error:
            self._failure = (self._clock.seconds(), error)
            raise
        self._success = _Success(value)
        return value
