"""A bucket for tests, of whichever service, on a server that verifies what it is sent."""

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

import attrs
from treq.client import HTTPClient
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer, IProducer, IPushProducer
from twisted.web.client import Agent, HTTPConnectionPool
from zope.interface import implementer

from nixery.interfaces import Location, Redirect, Stream
from nixery.model.digest import Digest
from nixery.storage.held_lease import LeaseTiming
from nixery.storage.objects.object_storage import ObjectOptions, ObjectStorage
from nixery.storage.objects.object_store import IObjectStore
from nixery.storage.objects.patient_store import Patience
from nixery.storage.objects.uploads import UploadOptions
from tests.gcs.bucket_server import BucketServer
from tests.gcs.faults import Fault
from tests.gcs.objects import Content
from tests.waiting import HUNG

reactor: Any = _reactor

STEP = 256 * 1024
"""Bytes: the services take multiples of it, but for the end of an upload."""
HASTY = Patience(tries=5, total=HUNG, first=0.005, longest=0.02, limit=HUNG)
OPTIONS = ObjectOptions(
    trust=0,
    patience=HASTY,
    uploads=UploadOptions(part=4 * STEP, at_once=3, patience=attrs.evolve(HASTY, tries=8)),
    leases=LeaseTiming(lifetime=30, shortest=0.01, longest=0.03),
)
HANG = 1.5  # seconds after which a request counts as lost, where requests hang
Permission = Literal["write", "list"]
Script = Mapping[str, Sequence[Fault | None]]


class Bucket(ABC):
    """A bucket on a service that knows no quota: what the storage contract asks for."""

    def __init__(self) -> None:
        self.pool = HTTPConnectionPool(reactor)
        self.agent = Agent(reactor, pool=self.pool, connectTimeout=HUNG)
        self._made: list[ObjectStorage] = []

    @abstractmethod
    def make_store(self, bucket: str | None = None) -> IObjectStore:
        """A store.

        :param bucket: another one than this.
        """

    @abstractmethod
    async def damage(self, digest: Digest, content: bytes | None) -> None:
        """Alter a blob, or take it away."""

    def make(self, store: IObjectStore | None = None, **options: Any) -> ObjectStorage:
        """A storage that is not started.

        :param options: those that are other ones than in ``OPTIONS``.
        """
        store = self.make_store() if store is None else store
        made = ObjectStorage(reactor, store, attrs.evolve(OPTIONS, **options))
        self._made.append(made)
        return made

    async def open(self) -> ObjectStorage:
        storage = self.make()
        await storage.start()
        return storage

    async def close(self) -> None:
        for storage in self._made:
            storage.stop()
        await self.pool.closeCachedConnections()

    @contextlib.contextmanager
    def full(self) -> Iterator[None]:
        raise NotImplementedError
        yield

    async def load(self, location: Location) -> bytes:
        return await load(self.agent, location)


class BucketPlace(Bucket):
    """A bucket on a server whose insides are open, and which fails as it is told to.

    :ivar permissions: what writing and listing take, in the service's words.
    :ivar lost_uploads: ways to lose an upload in parts.
    :ivar lie: a fault by which the service has another checksum of an upload of three parts.
    :ivar faults: those that pass, and that only this service has.
    """

    permissions: ClassVar[Mapping[Permission, str]]
    lost_uploads: ClassVar[Sequence[Script]]
    lie: ClassVar[Script]
    faults: ClassVar[Sequence[Fault]] = ()

    def __init__(self, server: BucketServer) -> None:
        super().__init__()
        self.server = server

    @abstractmethod
    def forbid(self, *what: Permission) -> None:
        """Take permissions away."""

    @abstractmethod
    def secrets(self) -> Sequence[str]:
        """What must be in no log."""

    @abstractmethod
    def take_anybody(self) -> None:
        """Have the server's clock as wrong as a test wants it: no token is of its time."""

    def make_hasty(self) -> ObjectStorage:
        """A storage that does not wait long for an answer; not started."""
        patience = attrs.evolve(OPTIONS.uploads.patience, limit=HANG)
        uploads = attrs.evolve(OPTIONS.uploads, patience=patience)
        return self.make(patience=attrs.evolve(HASTY, limit=HANG), uploads=uploads)

    async def open(self) -> ObjectStorage:
        storage = await super().open()
        self.server.requests.clear()
        return storage

    async def damage(self, digest: Digest, content: bytes | None) -> None:
        name = f"layers/{digest.hex}"
        if content is None:
            self.server.objects.pop(name, None)
        else:
            found = self.server.objects[name]
            self.server.bucket.put(name, Content.of(content), found.fields)

    @contextlib.contextmanager
    def full(self) -> Iterator[None]:
        self.server.bucket.full = True
        yield
        self.server.bucket.full = False


async def load(agent: Agent, location: Location) -> bytes:
    """What a client gets at a location."""
    if isinstance(location, Stream):
        collected = Collected()
        await location.copy(0, location.size, collected)
        return bytes(collected.content)
    assert isinstance(location, Redirect)
    client = HTTPClient(agent)
    response = await client.get(location.url, allow_redirects=False, reactor=reactor)
    content: bytes = await response.content()
    assert (response.code, len(content)) == (200, location.size), content[:500]
    return content


@implementer(IConsumer)
class Collected:
    """A client that takes what it gets.

    :ivar enough: after so many bytes it takes no more, until it is told to go on.
    """

    def __init__(self, enough: int | None = None) -> None:
        self.content = bytearray()
        self.enough = enough
        self.paused: Deferred[None] = Deferred()
        self.producer: IPushProducer | None = None
        self.registered = 0

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        assert streaming
        assert self.producer is None
        self.producer = IPushProducer(producer)
        self.registered += 1

    def unregisterProducer(self) -> None:
        self.producer = None

    def write(self, data: bytes) -> None:
        self.content += data
        if self.enough is not None and len(self.content) >= self.enough:
            assert self.producer is not None
            self.producer.pauseProducing()
            if not self.paused.called:
                self.paused.callback(None)

    def go_on(self) -> None:
        """Take the rest."""
        self.enough = None
        assert self.producer is not None
        self.producer.resumeProducing()
