"""Leases that are held: kept fresh until they are released, whatever they are made of."""

import random
from collections.abc import Awaitable, Callable

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from zope.interface import implementer

from nixery.interfaces import ILease
from nixery.model.errors import NixeryError


@attrs.frozen
class LeaseTiming:
    """How leases go.

    :param lifetime: seconds without a sign of its holder after which a lease is free.
    :param shortest: seconds between two looks of one who waits.
    :param longest: likewise.
    """

    lifetime: float = 30
    shortest: float = 0.5
    longest: float = 2

    def pause(self) -> float:
        """Seconds until the next look."""
        return random.uniform(self.shortest, self.longest)


class LeaseLost(Exception):
    """Another instance has taken a lease over."""


@implementer(ILease)
class HeldLease:
    """A lease that is held."""

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        name: str,
        lifetime: float,
        refresh: Callable[[], Awaitable[None]],
        give_back: Callable[[], Awaitable[None]],
    ) -> None:
        """
        :param name: what it is called in the log.
        :param lifetime: seconds that it lasts without being refreshed.
        :param refresh: shows that its holder is there; raises :exc:`LeaseLost`.
        :param give_back: makes it free, if it was not lost.
        """
        self._name = name
        self._refresh = refresh
        self._give_back = give_back
        self._released = False
        self._beat = LoopingCall(lambda: Deferred.fromCoroutine(self._refresh_once()))
        self._beat.clock = clock
        self._beating = self._beat.start(lifetime / 3, now=False)

    async def release(self) -> None:
        if self._released:
            return
        self._released = True
        if self._beat.running:
            self._beat.stop()
        # A refresh that is just under way would make it anew.
        await self._beating
        try:
            await self._give_back()
        except NixeryError as error:
            self._log.warn("{name} is left to expire: {error}", name=self._name, error=error)

    async def _refresh_once(self) -> None:
        try:
            await self._refresh()
        except LeaseLost:
            self._log.warn("{name} was lost to another instance; going on", name=self._name)
            self._beat.stop()
        except NixeryError as error:
            self._log.warn("{name} could not be kept: {error}", name=self._name, error=error)
