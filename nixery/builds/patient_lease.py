"""A lease on a record, for as long as it is worth waiting for."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IReactorTime

from nixery.interfaces import ILeases
from nixery.model.source import canonical_sha256

PATIENCE = 5.0
"""Seconds to wait for another instance that writes the same record."""


@asynccontextmanager
async def patient_lease(
    clock: IReactorTime, leases: ILeases, key: str, patience: float = PATIENCE
) -> AsyncIterator[None]:
    """A context in which other instances are kept from writing a record, if they let go of it soon.

    Without that, one of two simultaneous writes may be lost.

    :param key: the record's.
    :param patience: seconds to wait for it.
    """
    waiting = Deferred.fromCoroutine(leases.lease(canonical_sha256({"lease of": key})))
    try:
        lease = await waiting.addTimeout(patience, clock)
    except TimeoutError:
        lease = None
    try:
        yield
    finally:
        if lease is not None:
            await lease.release()
