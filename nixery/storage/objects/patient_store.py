"""An object store whose requests are repeated while their faults may pass."""

import random
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

import attrs
from twisted.internet.defer import DeferredSemaphore
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from nixery.model.service_errors import StorageUnavailable
from nixery.repeats import Repeats
from nixery.storage.objects.object_store import (
    IObjectStore,
    NewObject,
    PassingFault,
    Refused,
    StoredObject,
)

_AT_ONCE = 16  # requests; those that stream to clients are not counted

T = TypeVar("T")


@attrs.frozen
class Patience:
    """How long to go on after faults that may pass.

    :param tries: the most, the first included, without progress.
    :param total: seconds without progress after which there is no further try.
    :param first: seconds before the second try; each further wait is twice as long.
    :param longest: seconds, the longest wait.
    :param limit: seconds that one request may take.
    """

    tries: int = 5
    total: float = 20
    first: float = 0.4
    longest: float = 6
    limit: float = 10

    def quick(self) -> "Patience":
        """Less patience, for what can be done without."""
        limit = min(self.limit, 4)
        return attrs.evolve(self, tries=min(self.tries, 3), total=2 * limit, limit=limit)

    def wait(self, tried: int, asked: float = 0) -> float:
        """Seconds to wait after so many tries, by chance more or less.

        :param asked: seconds that the service asks to be left alone.
        """
        wait = min(self.longest, self.first * 2.0 ** (tried - 1)) * random.uniform(0.5, 1)
        return max(wait, min(asked, self.longest))


class PatientStore:
    """Makes attempts, a bounded number at a time, until one succeeds.

    Every method raises ``StorageUnavailable`` if the store refuses, or the fault does not pass,
    and if it writes, ``StorageFull``.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime, store: IObjectStore, patience: Patience) -> None:
        self.clock = clock
        self.store = store
        self.patience = patience
        self.repeats = Repeats(clock.seconds)
        self._turns = DeferredSemaphore(_AT_ONCE)

    async def head(self, name: str, patience: Patience | None = None) -> StoredObject | None:
        """Describe an object, if it is there."""
        return await self.run(f"looking for {name}", partial(self.store.head, name), patience)

    async def read(
        self, name: str, version: str | None = None, patience: Patience | None = None
    ) -> bytes | None:
        """The content of a small object, if it is there, and has that version."""
        reading = partial(self.store.read, name, version)
        return await self.run(f"reading {name}", reading, patience)

    async def write(
        self, new: NewObject, over: str | None = None, patience: Patience | None = None
    ) -> StoredObject:
        """Write an object in one request; see :meth:`IObjectStore.write`."""
        return await self.run(f"writing {new.name}", partial(self.store.write, new, over), patience)

    async def delete(
        self, name: str, version: str | None = None, patience: Patience | None = None
    ) -> None:
        """Delete an object, if it is there, and has that version."""
        deleting = partial(self.store.delete, name, version)
        await self.run(f"deleting {name}", deleting, patience)

    async def run(
        self,
        what: str,
        attempt: Callable[[float], Awaitable[T]],
        patience: Patience | None = None,
        counted: bool = True,
    ) -> T:
        """Do something in the store.

        :param what: for messages: ``reading layers/0a``.
        :param attempt: takes the seconds that one request may take.
        :param counted: whether it takes one of the turns.
        """
        patience = patience or self.patience
        tried, give_up = 0, self.clock.seconds() + patience.total
        while True:
            try:
                return await self._take_turn(attempt, patience.limit, counted)
            except Refused as refused:
                raise self._failed(what, str(refused)) from refused
            except PassingFault as fault:
                reason, asked = str(fault), fault.retry_after
                if fault.progress:
                    tried, give_up = 0, self.clock.seconds() + patience.total
            tried += 1
            wait = patience.wait(tried, asked)
            if tried >= patience.tries or self.clock.seconds() + wait > give_up:
                raise self._failed(what, reason)
            text = "{what}: {reason}; trying again"
            self.repeats.warn(self._log, reason, text, what=what, reason=reason)
            await self.pause(wait)

    async def pause(self, seconds: float) -> None:
        """Wait."""
        await deferLater(self.clock, seconds, lambda: None)

    def unavailable(self, what: str, reason: str) -> StorageUnavailable:
        """The error for something that the store did not do."""
        return StorageUnavailable(f"{what} in {self.store.title} failed: {reason}")

    async def _take_turn(
        self, attempt: Callable[[float], Awaitable[T]], limit: float, counted: bool
    ) -> T:
        if not counted:
            return await attempt(limit)
        await self._turns.acquire()
        try:
            return await attempt(limit)
        finally:
            self._turns.release()

    def _failed(self, what: str, reason: str) -> StorageUnavailable:
        self._log.error("{what} failed: {reason}", what=what, reason=reason)
        return self.unavailable(what, reason)
