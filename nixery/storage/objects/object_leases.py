"""Leases as objects: whoever writes the object holds the lease, and keeps it fresh."""

import json
import uuid

import attrs

from nixery.storage.held_lease import HeldLease, LeaseLost, LeaseTiming
from nixery.storage.objects.object_store import (
    ABSENT,
    NewObject,
    PreconditionFailed,
    StoredObject,
)
from nixery.storage.objects.patient_store import Patience, PatientStore


class ObjectLeases:
    """Gives out leases."""

    def __init__(self, store: PatientStore, timing: LeaseTiming) -> None:
        self._store = store
        self._timing = timing

    async def lease(self, key: str) -> HeldLease:
        """Wait for the lease of a key."""
        name, owner, over = f"leases/{key}", uuid.uuid4().hex, ABSENT
        while True:
            try:
                return self._hold(await self._write(name, owner, over), owner)
            except PreconditionFailed:
                over = await self._wait_until_free(name)

    def _hold(self, held: StoredObject, owner: str) -> HeldLease:
        patience, lifetime = self._store.patience, self._timing.lifetime

        async def refresh() -> None:
            nonlocal held
            within = attrs.evolve(patience, total=lifetime / 3)
            try:
                held = await self._write(held.name, owner, held.version, within)
            except PreconditionFailed:
                raise LeaseLost from None

        async def give_back() -> None:
            await self._store.delete(held.name, held.version, patience.quick())

        return HeldLease(self._store.clock, held.name, lifetime, refresh, give_back)

    async def _wait_until_free(self, name: str) -> str:
        """Wait until nobody holds a lease.

        :return: the version of the object that is left of it.
        """
        while (found := await self._store.head(name)) is not None:
            if found.age is not None and found.age > _lifetime_of(found):
                return found.version
            await self._store.pause(self._timing.pause())
        return ABSENT

    async def _write(
        self, name: str, owner: str, over: str, patience: Patience | None = None
    ) -> StoredObject:
        """Write a lease's object.

        :param over: the version that it replaces.
        :raises PreconditionFailed: if another instance holds the lease.
        """
        facts = {"owner": owner, "lifetime": str(self._timing.lifetime)}
        # The same content twice may have the same version.
        content = json.dumps({**facts, "written": uuid.uuid4().hex}).encode("ascii")
        try:
            return await self._store.write(NewObject(name, content, facts), over, patience)
        except PreconditionFailed:
            # If an answer was lost, what is there is what was just written.
            found = await self._store.head(name)
            if found is not None and found.metadata.get("owner") == owner:
                return found
            raise


def _lifetime_of(found: StoredObject) -> float:
    """Seconds that a lease lasts by what its holder has noted."""
    try:
        return min(float(found.metadata["lifetime"]), 3600)
    except (KeyError, ValueError):
        return LeaseTiming().lifetime
