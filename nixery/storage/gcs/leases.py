"""Leases as objects: whoever makes the object holds the lease, and keeps it fresh."""

import json
import uuid

import attrs

from nixery.storage.gcs.bucket import ABSENT, Bucket, Object, PreconditionFailed
from nixery.storage.gcs.patience import Patience
from nixery.storage.leasing import HeldLease, LeaseLost, Timing


class HeldObject:
    """The object of a lease that is held."""

    def __init__(self, bucket: Bucket, held: Object, owner: str, timing: Timing) -> None:
        self._bucket = bucket
        self._held = held
        self._owner = owner
        self._timing = timing

    def lease(self) -> HeldLease:
        """The lease, which begins to be refreshed."""
        clock, lifetime = self._bucket.requests.reactor, self._timing.lifetime
        return HeldLease(clock, self._held.name, lifetime, self._refresh, self._give_back)

    async def _refresh(self) -> None:
        patience = attrs.evolve(self._bucket.requests.patience, total=self._timing.lifetime / 3)
        try:
            self._held = await write_lease(
                self._bucket,
                self._held.name,
                self._owner,
                self._timing,
                self._held.generation,
                patience,
            )
        except PreconditionFailed:
            raise LeaseLost from None

    async def _give_back(self) -> None:
        patience = self._bucket.requests.patience.quick()
        await self._bucket.delete(self._held.name, self._held.generation, patience)


class Leases:
    """Gives out leases."""

    def __init__(self, bucket: Bucket, timing: Timing) -> None:
        self._bucket = bucket
        self._timing = timing

    async def lease(self, key: str) -> HeldLease:
        """Wait for the lease of a key."""
        name, owner, over = f"leases/{key}", uuid.uuid4().hex, ABSENT
        while True:
            try:
                held = await write_lease(self._bucket, name, owner, self._timing, over)
                return HeldObject(self._bucket, held, owner, self._timing).lease()
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
