"""The registry on a real port, over a builder and a storage that tests look into."""

import http.client
import json
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import attrs
from klein import Klein
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import HostnameEndpoint, TCP4ServerEndpoint, connectProtocol
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IStreamServerEndpoint
from twisted.internet.protocol import Protocol
from twisted.internet.threads import deferToThread
from twisted.protocols.policies import WrappingFactory
from zope.interface import implementer

from nixery.attest.signing_keys import SigningKey
from nixery.builds.artifacts import Artifacts
from nixery.builds.cache import Cache
from nixery.history.history import History
from nixery.http.asked_head import SECRET
from nixery.http.bounds import Bounds
from nixery.http.door import DoorEndpoint
from nixery.http.lending import lend
from nixery.http.request import NOBODY, Trusted
from nixery.interfaces import (
    BlobFile,
    IBuilder,
    ICatalogue,
    IStorage,
    Location,
    OnBuild,
    Provenance,
    Pull,
)
from nixery.model.digest import Digest
from nixery.model.errors import NixeryError
from nixery.model.image import Image
from nixery.model.limits import HttpLimits
from nixery.model.manifest import CONFIG_TYPE, INDEX_TYPE, Descriptor, Manifest, make_manifest
from nixery.model.request_errors import ManifestUnknown
from nixery.serving.responders import Responders
from nixery.storage.memory import MemoryStorage
from nixery.web.access_log import IMeter, OnManifest, ignore_manifest
from nixery.web.auth import OPEN, Auth
from nixery.web.builds import BuildsApi
from nixery.web.packages import PackagesApi
from nixery.web.pages.api import PagesApi
from nixery.web.pages.docs_api import DocsApi
from nixery.web.pages.start_api import StartApi
from nixery.web.site import IApi, QuietSite, make_site
from nixery.web.stored_images import StoredImages
from tests.waiting import HUNG, until

reactor: Any = _reactor

P = TypeVar("P", bound=Protocol)

LIMITS = HttpLimits()

MANIFEST = make_manifest(Descriptor(CONFIG_TYPE, Digest.of(b"config"), 6), [])


@implementer(IBuilder)
@attrs.define
class FakeBuilder:
    """Answers as it is told, and remembers what it was asked.

    :ivar gate: while it is set, builds wait for it.
    :ivar error: what builds fail with.
    :ivar made_from: what images are said to be made from.
    :ivar offered: the tags.
    :ivar served: of every image.
    :ivar indexes: those of every image whose name says no platform, by media type.
    :ivar kinds: the media types of indexes that were asked for.
    :ivar build: the ID of the build that images come from.
    :ivar cache: knows other manifests that are stored, if there is one.
    """

    asked: list[Image] = attrs.Factory(list)
    clients: list[str] = attrs.Factory(list)
    requests: list[str] = attrs.Factory(list)
    gate: Deferred[None] | None = None
    error: Exception | None = None
    build: str | None = None
    left: int = 0
    made_from: Provenance | None = None
    offered: list[str] = attrs.Factory(lambda: ["latest"])
    served: Manifest = MANIFEST
    indexes: dict[str, Manifest] = attrs.Factory(dict)
    kinds: list[str] = attrs.Factory(list)
    cache: Cache | None = None

    async def manifest(
        self,
        image: Image,
        on_build: OnBuild | None = None,
        client: str = "",
        request: str = "",
        behind: bool = False,
        index: str = INDEX_TYPE,
    ) -> Pull:
        self.clients.append(client)
        self.requests.append(request)
        self.asked.append(image)
        self.kinds.append(index)
        if on_build is not None and self.build is not None:
            on_build(self.build)
        if self.gate is not None:
            await self._wait(self.gate)
        if self.error is not None:
            raise self.error
        named = {} if image.has_platform else self.indexes
        return self._pull(named.get(index, self.served))

    async def stored_manifest(self, digest: Digest) -> Pull:
        for each in (MANIFEST, *self.indexes.values()):
            if each.digest == digest:
                return self._pull(each)
        if self.cache is None:
            raise ManifestUnknown(str(digest))
        return Pull(await self.cache.stored(digest), None, lambda: True)

    def _pull(self, manifest: Manifest) -> Pull:
        told = self.made_from
        return Pull(manifest, told, partial(self._is_still, told))

    def _is_still(self, told: Provenance | None) -> bool:
        """Whether it would answer as before: at once, from the same."""
        return (self.gate, self.error, self.build, self.made_from) == (None, None, None, told)

    async def provenance(self) -> Provenance:
        if self.error is not None:
            raise self.error
        return self.made_from or Provenance("git:https://example.com/x", "1" * 40)

    async def tags(self) -> list[str]:
        if self.error is not None:
            raise self.error
        return self.offered

    def _wait(self, gate: Deferred[None]) -> Deferred[None]:
        """A wait of the caller's own, as the interface promises."""

        def leave(_: Deferred[None]) -> None:
            self.left += 1

        own: Deferred[None] = Deferred(leave)
        gate.addCallback(lambda _: None if own.called else own.callback(None))
        return own


@attrs.frozen
class Answer:
    """An HTTP answer that was read to its end."""

    status: int
    reason: str
    headers: dict[str, str]
    body: bytes

    def undated(self) -> "Answer":
        """All of it that does not differ each time that it is given."""
        differs = ("date", "x-request-id")
        headers = {name: text for name, text in self.headers.items() if name not in differs}
        media_type, _, boundary = headers.get("content-type", "").partition("; boundary=")
        if not boundary:
            return attrs.evolve(self, headers=headers)
        headers["content-type"] = media_type
        return attrs.evolve(self, headers=headers, body=self.body.replace(boundary.encode(), b""))

    def error(self) -> dict[str, Any]:
        """The first error of the registry's error document."""
        document = json.loads(self.body)
        first: dict[str, Any] = document["errors"][0]
        return first


@attrs.define
class Server:
    """A registry that listens on a port of this machine.

    :cvar times: how often all is asked; if more than twice, connections are lent.
    """

    times: ClassVar[int] = 1

    builder: FakeBuilder
    storage: IStorage
    port: int
    site: QuietSite
    responders: Responders | None = None

    def changing(self) -> AbstractContextManager[object]:
        """A context in which something changes on which answers depend. Of what is found at a look
        alone, as of blobs, responders learn so within a second; of users and rules, at once."""
        return nullcontext() if self.responders is None else self.responders.changing()

    @property
    def bounds(self) -> Bounds:
        """What its clients may have of it, and how much they do."""
        return self.site.bounds

    async def until(self, true: Callable[[], bool]) -> None:
        """Wait until something is so."""
        await until(true)

    async def post(self, path: str, body: bytes, headers: dict[str, str]) -> Answer:
        """Send something."""
        return await self._ask(path, "POST", headers, body)

    async def ask(
        self, path: str, method: str = "GET", headers: dict[str, str] | None = None
    ) -> Answer:
        """Ask without following redirects; the path goes out as it is written.

        If :attr:`times` says so, it is asked again, unless that was an error, which is never known:
        all answers are the same.
        """
        first = last = await self._ask(path, method, headers)
        for _ in range(self.times - 1 if first.status < 400 else 0):
            last = await self._ask(path, method, headers)
            assert last.undated() == first.undated()
        return last

    async def _ask(
        self, path: str, method: str, headers: dict[str, str] | None, body: bytes | None = None
    ) -> Answer:
        def talk() -> Answer:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=HUNG)
            try:
                connection.request(method, path, body, headers or {})
                answer = connection.getresponse()
                fields = {name.lower(): value for name, value in answer.getheaders()}
                return Answer(answer.status, answer.reason, fields, answer.read())
            finally:
                connection.close()

        answer: Answer = await deferToThread(talk)
        return answer

    async def send(self, data: bytes) -> bytes:
        """Send bytes, and say what comes until the connection is closed."""
        protocol = await self.connect(Collector())
        protocol.transport.write(data)  # type: ignore[union-attr]
        received: bytes = await protocol.closed
        return received

    async def connect(self, protocol: P) -> P:
        """Connect a protocol of the test's own."""
        endpoint = HostnameEndpoint(reactor, "127.0.0.1", self.port)
        connected: P = await connectProtocol(endpoint, protocol)
        return connected


class Collector(Protocol):
    """Collects what it is sent."""

    def __init__(self) -> None:
        self.received = b""
        self.closed: Deferred[bytes] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Any = None) -> None:
        self.closed.callback(self.received)


@implementer(IStreamServerEndpoint)
@attrs.frozen
class WrappingEndpoint:
    """Has a protocol between socket and HTTP, as with TLS: the kernel can send no file there."""

    endpoint: IStreamServerEndpoint

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        return self.endpoint.listen(WrappingFactory(protocolFactory))


@asynccontextmanager
async def serving(
    hold: float = 25,
    storage: Any = None,
    history: History | None = None,
    logs: bool = True,
    auth: Auth = OPEN,
    trusted: Trusted = NOBODY,
    limits: HttpLimits = LIMITS,
    meter: IMeter | None = None,
    accel: str | None = None,
    wrapped: bool = False,
    catalogue: ICatalogue | None = None,
    images: StoredImages | None = None,
    on_manifest: OnManifest = ignore_manifest,
    keys: Sequence[SigningKey] = (),
    more: Iterable[Klein] = (),
    apis: Sequence[IApi] = (),
    packages: PackagesApi | None = None,
) -> AsyncIterator[Server]:
    """Serve for the length of a block; builds are shown if there is a history.

    :param keys: that images are signed with which are stored.
    :param wrapped: whether connections are such as :class:`WrappingEndpoint` makes.
    """
    builder = FakeBuilder()
    storage = storage or MemoryStorage()
    builds = BuildsApi(reactor, history, logs, auth) if history is not None else None
    pages = PagesApi()
    site = make_site(
        *(reactor, builder, storage, hold, pages, builds, packages, auth, trusted, limits, meter),
        accel=accel,
        more=[
            StartApi(reactor, builder, history, catalogue, images, auth).app,
            DocsApi(reactor).app,
            *more,
        ],
        on_manifest=on_manifest,
        artifacts=Artifacts(reactor, storage, Cache(storage), keys),
        apis=apis,
    )
    endpoint: Any = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
    if wrapped:
        endpoint = WrappingEndpoint(endpoint)
    port: Any = await DoorEndpoint(reactor, endpoint, is_tls=False).listen(site)
    try:
        async with lending(site) if Server.times > 2 else nullcontext() as responders:
            yield Server(builder, storage, port.getHost().port, site, responders)
    finally:
        await maybeDeferred(port.stopListening)


@asynccontextmanager
async def lending(site: QuietSite) -> AsyncIterator[Responders]:
    """Lend a site's connections to a responder, which has begun to work, for the length of a
    block."""
    responders = Responders(reactor, reactor, 1, SECRET)
    lend(site, responders)
    responders.start()
    try:
        await until(lambda: all(each.is_ready for each in responders._links))
        yield responders
    finally:
        await responders.stop()


def as_it_is(path: Path) -> BlobFile:
    found = path.stat()
    return BlobFile(str(path), found.st_size, found.st_mtime_ns, found.st_ctime_ns)


@attrs.define
class Locating(MemoryStorage):
    """A storage that says where blobs are as it is told."""

    location: Location | NixeryError | None = None

    def __attrs_pre_init__(self) -> None:
        super().__init__()

    def changes(self) -> int | None:
        return id(self.location)

    async def locate(self, digest: Digest) -> Location:  # type: ignore[override]
        if isinstance(self.location, NixeryError):
            raise self.location
        assert self.location is not None
        return self.location
