# mypy: disable-error-code="import-untyped,untyped-decorator"
"""Leases in a bucket: kept fresh while they are held, free some time after their holder's end."""

import json
from typing import Any

import attrs
import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.logger import LogEvent, capturedLogs, formatEvent

from nixery.storage.objects.object_storage import ObjectStorage
from tests import waiting
from tests.gcs.faults import Faults
from tests.storage.backend import KEY
from tests.storage.bucket_place import OPTIONS, BucketPlace

reactor: Any = _reactor

NAME = "leases/0a"


def make(place: BucketPlace, lifetime: float = 30) -> ObjectStorage:
    return place.make(leases=attrs.evolve(OPTIONS.leases, lifetime=lifetime))


async def until(place: BucketPlace, kind: str, count: int) -> None:
    """Wait until there were some more requests of a kind."""
    enough = place.server.count(kind) + count
    while place.server.count(kind) < enough:
        await deferLater(reactor, 0.005)


def _is_lost(event: LogEvent) -> bool:
    return "was lost to another" in (formatEvent(event) or "")


@pytest_twisted.ensureDeferred
async def test_held(place: BucketPlace) -> None:
    """A lease says whose it is, and is gone when it is released."""
    lease = await make(place).lease("0a")
    facts = json.loads(place.server.content(NAME))
    assert facts["owner"]
    assert float(facts["lifetime"]) == 30
    await lease.release()
    assert NAME not in place.server.objects


@pytest_twisted.ensureDeferred
async def test_kept_fresh(place: BucketPlace) -> None:
    """A lease is written anew while it is held, and not once it is released."""
    lease = await make(place, lifetime=0.15).lease("0a")
    generation = place.server.objects[NAME].generation
    await until(place, "upload.media", 2)
    assert place.server.objects[NAME].generation > generation
    await lease.release()
    before = place.server.count("upload.media")
    await deferLater(reactor, 0.15)
    assert place.server.count("upload.media") == before
    assert NAME not in place.server.objects


@pytest.mark.parametrize("skew", [-7200, 0, 7200])
@pytest_twisted.ensureDeferred
async def test_taken_over(place: BucketPlace, skew: float) -> None:
    """The lease of an instance that is no more is free after its lifetime, by the service's
    clock, however wrong one's own is; and not before."""
    place.server.clock.offset = skew
    place.take_anybody()
    await make(place).lease("0a")
    waiting = Deferred.fromCoroutine(make(place).lease("0a"))
    place.server.clock.offset += 28
    await until(place, "object.get", 3)
    assert not waiting.called
    place.server.clock.offset += 4
    lease = await waiting
    await lease.release()
    assert NAME not in place.server.objects


@pytest_twisted.ensureDeferred
async def test_two_take_over(place: BucketPlace) -> None:
    """Of several who find a lease free at once, one has it at a time."""
    place.server.put(NAME, b"left by an older version")
    place.server.clock.offset = 60
    first, second = make(place), make(place)
    waiting = [Deferred.fromCoroutine(s.lease("0a")) for s in (first, second, first, second)]
    for _ in range(4):
        while not any(lease.called for lease in waiting):
            await deferLater(reactor, 0.005)
        await deferLater(reactor, 0.05)
        (held,) = [lease for lease in waiting if lease.called]
        waiting.remove(held)
        await (await held).release()
    assert NAME not in place.server.objects


@pytest_twisted.ensureDeferred
async def test_lost_answers(place: BucketPlace) -> None:
    """Who has got a lease without being told finds out that it is his."""
    place.server.faults = Faults.script(upload_media=["drop-after", None, "drop-after"])
    lease = await make(place, lifetime=0.6).lease("0a")
    assert place.server.count("upload.media") == 2
    await until(place, "upload.media", 3)
    with capturedLogs() as captured:
        await until(place, "upload.media", 1)
    assert not [event for event in captured if "was lost" in (formatEvent(event) or "")]
    await lease.release()
    assert NAME not in place.server.objects


@pytest_twisted.ensureDeferred
async def test_lost_lease(place: BucketPlace) -> None:
    """A lease that another has taken over is not taken back, nor released."""
    lease = await make(place, lifetime=0.15).lease("0a")
    with capturedLogs() as captured:
        place.server.put(NAME, b"another's")
        await waiting.until(lambda: any(map(_is_lost, captured)))
        before = place.server.count("upload.media")
        await deferLater(reactor, 0.15)
    assert place.server.count("upload.media") == before
    await lease.release()
    assert place.server.content(NAME) == b"another's"


@pytest_twisted.ensureDeferred
async def test_a_bucket_that_is_gone(place: BucketPlace) -> None:
    """If the bucket can't be reached while a lease is held, the work goes on, and its end is no
    error either."""
    storage = make(place, lifetime=0.15)
    lease = await storage.lease("0a")
    place.server.faults = Faults(lambda kind, asked: "503")
    await until(place, "upload.media", 6)
    await lease.release()
    place.server.faults = Faults()
    await storage.write_record(KEY, b"")
