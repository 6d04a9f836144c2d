# mypy: disable-error-code="import-untyped,untyped-decorator"
"""The storage over object stores, whichever they are: on one in memory."""

import contextlib
from collections.abc import Iterator
from typing import Any

import attrs
import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from nixery.interfaces import BlobFile, Location, Redirect, Stream, Value
from nixery.model.digest import Digest
from nixery.model.service_errors import StorageUnavailable
from nixery.storage.objects.object_storage import ObjectStorage
from nixery.storage.objects.object_store import IObjectStore, IObjectUpload
from nixery.storage.objects.s3 import S3Store
from tests.storage.backend import KEY, exercise
from tests.storage.bucket_place import OPTIONS, Collected
from tests.storage.contract import StorageContract
from tests.storage.memory_store import AFTER, BEFORE, CUT, MemoryBucket, MemoryStore, Schedule
from tests.waiting import until

reactor: Any = _reactor

PART = OPTIONS.uploads.part
LARGE = bytes(range(256)) * (5 * PART // 512) + b"the rest"  # three parts


class MemoryPlace:
    """A bucket in memory that several storages share."""

    def __init__(self) -> None:
        self.bucket = MemoryBucket()
        self.made: list[ObjectStorage] = []

    def make(self, **options: Any) -> ObjectStorage:
        """A storage that is not started; options as in ``OPTIONS`` but for these."""
        store = MemoryStore(self.bucket, least_part=PART)
        self.made.append(ObjectStorage(reactor, store, attrs.evolve(OPTIONS, **options)))
        return self.made[-1]

    async def open(self) -> ObjectStorage:
        storage = self.make(redirect=False)
        await storage.start()
        return storage

    async def damage(self, digest: Digest, content: bytes | None) -> None:
        name = f"layers/{digest.hex}"
        held = self.bucket.objects.pop(name, None)
        if content is not None:
            assert held is not None
            self.bucket.put(name, content, held.metadata)

    @contextlib.contextmanager
    def full(self) -> Iterator[None]:
        self.bucket.full = True
        yield
        self.bucket.full = False

    async def load(self, location: Location) -> bytes:
        assert not isinstance(location, Value | BlobFile | Redirect)
        client = Collected()
        await location.copy(0, location.size, client)
        return bytes(client.content)


@pytest.fixture
def place() -> Iterator[MemoryPlace]:
    place = MemoryPlace()
    yield place
    for storage in place.made:
        storage.stop()


class TestObjects(StorageContract):
    """On a store that sends uploads in parts of a least size, as S3 does."""

    @pytest.fixture
    def backend(self, place: MemoryPlace) -> MemoryPlace:
        return place


@pytest_twisted.ensureDeferred
async def test_interfaces(place: MemoryPlace) -> None:
    """The store of these tests provides all that the interfaces ask for."""
    memory = MemoryStore(place.bucket)
    verifyObject(IObjectStore, memory)
    upload = await memory.begin_upload("staging/0", 1)
    verifyObject(IObjectUpload, upload)


@pytest.mark.parametrize("fault", [BEFORE, AFTER, CUT])
@pytest_twisted.ensureDeferred
async def test_each_fault_once(place: MemoryPlace, fault: str) -> None:
    """Whatever befalls the first attempt at everything, all comes out as it should."""
    storage = await place.open()
    place.bucket.schedule = Schedule.each_once(fault)
    assert await place.load(await exercise(storage, LARGE)) == LARGE
    assert set(place.bucket.schedule.happened) == {fault}
    assert {name.partition("/")[0] for name in place.bucket.objects} == {"layers"}
    assert place.bucket.uploads == 0


@pytest.mark.parametrize("seed", range(5))
@pytest_twisted.ensureDeferred
async def test_many_faults(place: MemoryPlace, seed: int) -> None:
    """With a fault in every third attempt, all comes out as it should."""
    storage = await place.open()
    place.bucket.schedule = Schedule.share(0.3, seed)
    assert await place.load(await exercise(storage, LARGE)) == LARGE
    assert place.bucket.schedule.happened


@pytest_twisted.ensureDeferred
async def test_faults_that_stay(place: MemoryPlace) -> None:
    """A fault that stays is given up after some tries, and named."""
    storage = await place.open()
    place.bucket.schedule = Schedule(lambda words: BEFORE)
    with pytest.raises(StorageUnavailable, match=f"reading {KEY} in memory failed: the request"):
        await storage.read_record(KEY)
    reads = [words for words in place.bucket.attempts if words[0] == "read"]
    assert len(reads) == OPTIONS.patience.tries


@pytest_twisted.ensureDeferred
async def test_progress_counts(place: MemoryPlace) -> None:
    """A copy that is cut off more often than is tried goes on, as long as it gets further."""
    storage = await place.open()
    location = await storage.locate(await storage.write_blob(LARGE))
    place.bucket.schedule = Schedule(lambda words: CUT if words[0] == "copy_range" else "")
    assert isinstance(location, Stream)
    client = Collected()
    await location.copy(10, 1000, client)
    assert client.content == LARGE[10:1010]
    assert len(place.bucket.schedule.happened) > OPTIONS.patience.tries
    assert client.registered == len(place.bucket.schedule.happened)


@pytest_twisted.ensureDeferred
async def test_copies_that_are_silent(place: MemoryPlace) -> None:
    """A copy has all its tries, however long those take that bring nothing."""
    patience = attrs.evolve(OPTIONS.patience, total=0)
    storage = place.make(redirect=False, patience=patience)
    await storage.start()
    location = await storage.locate(await storage.write_blob(LARGE))
    place.bucket.schedule = Schedule(lambda words: BEFORE if words[0] == "copy_range" else "")
    with pytest.raises(StorageUnavailable):
        await place.load(location)
    assert len(place.bucket.schedule.happened) == patience.tries


@pytest_twisted.ensureDeferred
async def test_clients_that_leave(place: MemoryPlace) -> None:
    """A client that wants no more ends its copy, and nothing is asked for anew."""
    storage = await place.open()
    location = await storage.locate(await storage.write_blob(LARGE))
    assert isinstance(location, Stream)
    client = Collected(enough=1000)

    async def copy() -> None:
        await location.copy(0, location.size, client)

    copying = Deferred.fromCoroutine(copy())
    await client.paused
    assert client.producer is not None
    client.producer.stopProducing()
    with pytest.raises(CancelledError):
        await copying
    assert [words[0] for words in place.bucket.attempts].count("copy_range") == 1


@pytest_twisted.ensureDeferred
async def test_signed_once() -> None:
    """A URL is handed out for half of its life, however many ask; then there is another one."""
    clock: Any = Clock()
    memory = MemoryStore(MemoryBucket())
    storage = ObjectStorage(clock, memory, attrs.evolve(OPTIONS, trust=1000))
    first, other = await storage.write_blob(b"first"), await storage.write_blob(b"other")
    asking = [Deferred.fromCoroutine(storage.locate(first)) for _ in range(50)]
    (location,) = {await asked for asked in asking}
    clock.advance(149)
    assert await storage.locate(first) == location
    assert memory.signed == 1
    clock.advance(2)
    assert await storage.locate(first) != location
    assert await storage.locate(other) != await storage.locate(first)
    assert memory.signed == 3


@pytest_twisted.ensureDeferred
async def test_urls_of_credentials_that_end() -> None:
    """However long URLs are to work for, one that may end with the credentials that signed it is
    replaced while these are good."""
    clock: Any = Clock()
    memory = MemoryStore(MemoryBucket())
    memory.url_age = S3Store.url_age
    storage = ObjectStorage(clock, memory, attrs.evolve(OPTIONS, trust=1000, url_lifetime=43_200))
    digest = await storage.write_blob(b"first")
    location = await storage.locate(digest)
    clock.advance(149)
    assert await storage.locate(digest) == location
    clock.advance(2)
    assert await storage.locate(digest) != location


@pytest_twisted.ensureDeferred
async def test_probe(place: MemoryPlace) -> None:
    """A probe leaves nothing, and says if what was written can't be read."""
    storage = await place.open()
    await storage.probe()
    assert place.bucket.objects == {}

    def read(words: tuple[object, ...]) -> str:
        if words[0] == "read":
            place.bucket.objects.clear()
        return ""

    place.bucket.schedule = Schedule(read)
    with pytest.raises(StorageUnavailable, match="is not there"):
        await storage.probe()


@pytest_twisted.ensureDeferred
async def test_old_leavings(place: MemoryPlace) -> None:
    """What was left unfinished a day ago goes, on however many pages it is listed; what is
    younger, of another form, and all else, stays."""
    old = [f"staging/{number:032x}" for number in range(5)]
    others = {"layers/old", "builds/old", "staging/website", "leases/contract.pdf"}
    for name in (*old, "leases/0b", *others):
        place.bucket.put(name, b"", {})
    place.bucket.offset = 25 * 3600
    place.bucket.put(f"staging/{'f' * 32}", b"", {})
    await place.open()
    await until(lambda: not {*old, "leases/0b"} & set(place.bucket.objects))
    assert set(place.bucket.objects) == {f"staging/{'f' * 32}", *others}


@pytest_twisted.ensureDeferred
async def test_stopped(place: MemoryPlace) -> None:
    """A storage may be stopped that was never started, and twice."""
    storage = place.make()
    storage.stop()
    await storage.start()
    for _ in range(2):
        storage.stop()
