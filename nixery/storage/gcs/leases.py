"""Leases as objects: whoever makes the object holds the lease, and keeps it fresh."""

import json
import random
import uuid

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from zope.interface import implementer

from nixery.interfaces import ILease
from nixery.model.errors import NixeryError
from nixery.storage.gcs.bucket import ABSENT, Bucket, Object, PreconditionFailed
from nixery.storage.gcs.patience import Patience


@attrs.frozen
class Timing:
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


@implementer(ILease)
class BucketLease:
    """A lease that is held."""

    _log = Logger()

    def __init__(self, bucket: Bucket, held: Object, owner: str, timing: Timing) -> None:
        self._bucket = bucket
        self._held = held
        self._owner = owner
        self._timing = timing
        self._released = False
        self._beat = LoopingCall(self._refresh)
        self._beat.clock = bucket.requests.reactor
        self._beating = self._beat.start(timing.lifetime / 3, now=False)

    async def release(self) -> None:
        if self._released:
            return
        self._released = True
        if self._beat.running:
            self._beat.stop()
        # A refresh that is just under way would make the object anew.
        await self._beating
        try:
            patience = self._bucket.requests.patience.quick()
            await self._bucket.delete(self._held.name, self._held.generation, patience)
        except NixeryError as error:
            self._log.warn("{name} is left to expire: {error}", name=self._held.name, error=error)

    async def _refresh_once(self) -> None:
        name = self._held.name
        try:
            patience = attrs.evolve(self._bucket.requests.patience, total=self._timing.lifetime / 3)
            self._held = await write_lease(
                self._bucket, name, self._owner, self._timing, self._held.generation, patience
            )
        except PreconditionFailed:
            self._log.warn("{name} was lost to another instance; going on", name=name)
            self._beat.stop()
        except NixeryError as error:
            self._log.warn("{name} could not be kept: {error}", name=name, error=error)

    def _refresh(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._refresh_once())


class Leases:
    """Gives out leases."""

    def __init__(self, bucket: Bucket, timing: Timing) -> None:
        self._bucket = bucket
        self._timing = timing

    async def lease(self, key: str) -> BucketLease:
        """Wait for the lease of a key."""
        name, owner, over = f"leases/{key}", uuid.uuid4().hex, ABSENT
        while True:
            try:
                held = await write_lease(self._bucket, name, owner, self._timing, over)
                return BucketLease(self._bucket, held, owner, self._timing)
            except PreconditionFailed:
                over = await self._wait_until_free(name)

    async def _wait_until_free(self, name: str) -> int:
        """Wait until nobody holds a lease.

        :return: the generation of the object that is left of it.
        """
        while True:
            found, now = await self._bucket.stat_with_date(name)
            if found is None:
                return ABSENT
            if now is not None and now - found.updated > lifetime_of(found):
                return found.generation
            await self._bucket.requests.pause(self._timing.pause())


async def write_lease(
    bucket: Bucket,
    name: str,
    owner: str,
    timing: Timing,
    over: int,
    patience: Patience | None = None,
) -> Object:
    """Write a lease's object.

    :param over: the generation of the object that it replaces.
    :raises PreconditionFailed: if another one holds the lease.
    """
    facts = {"owner": owner, "lifetime": str(timing.lifetime)}
    content = json.dumps(facts).encode("ascii")
    try:
        return await bucket.write(name, content, over=over, metadata=facts, patience=patience)
    except PreconditionFailed:
        # If an answer was lost, what is there is what was just written.
        found = await bucket.stat(name)
        if found is not None and found.metadata.get("owner") == owner:
            return found
        raise


def lifetime_of(found: Object) -> float:
    """Seconds that a lease lasts by what its holder has noted."""
    try:
        return min(float(found.metadata["lifetime"]), 3600)
    except (KeyError, ValueError):
        return Timing().lifetime
