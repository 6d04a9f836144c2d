"""The HTTP server: what is checked of every request before anything else sees it."""

import re
from collections.abc import Callable
from typing import cast

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel
from twisted.web.http import Request as BaseRequest
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from nixery.interfaces import IBuilder, IStorage
from nixery.model.errors import NixeryError
from nixery.web.answers import Kind, answer, answer_error
from nixery.web.auth import OPEN, TOKEN_PATH, Auth
from nixery.web.builds import BuildsApi
from nixery.web.draining import InFlight
from nixery.web.holding import Holding
from nixery.web.packages import PackagesApi
from nixery.web.pages.page import prefers_html
from nixery.web.pages.site import PagesApi
from nixery.web.registry import IWebReactor, RegistryApi
from nixery.web.request import HOST, NOBODY, RegistryRequest, Trusted

_log = Logger()

IDLE = 120
"""Seconds after which a connection without a request is closed."""
_UNKNOWN = Kind(500, "UNKNOWN")
_ALLOWED = (b"GET", b"HEAD")
_LONGEST_PATH = 2048
_TLS_HANDSHAKE = b"\x16\x03"


class Root(Resource):
    """Refuses what is no proper request, and hands on the rest."""

    isLeaf = True

    def __init__(
        self,
        api: RegistryApi,
        pages: PagesApi,
        builds: BuildsApi | None,
        packages: PackagesApi | None,
        auth: Auth,
        in_flight: InFlight,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._in_flight = in_flight
        self._registry = api.app.resource()
        self._pages = pages.app.resource()
        self._auth = auth
        self._builds = builds.app.resource() if builds is not None else None
        self._packages = packages.app.resource() if packages is not None else None

    def render(self, request: Request) -> bytes | int:
        """Answer a request; errors below ``/v2`` have the registry's form."""
        request.setHeader(b"Server", b"nixery")
        if _in_registry(request):
            self._in_flight.begin(request)
            request.setHeader(b"Docker-Distribution-Api-Version", b"registry/2.0")
        fault = _fault(request)
        if fault is not None:
            return answer(request, Kind(400, "UNSUPPORTED"), fault)
        if request.method not in _ALLOWED:
            request.setHeader(b"Allow", b", ".join(_ALLOWED))
            kind = Kind(405, "UNSUPPORTED")
            return answer(request, kind, "images are made on demand: this registry is read-only")
        return self._serve(request) if self._auth.is_open else self._identify(request)

    def _identify(self, request: Request) -> int:
        """Answer a request once it is known who sends it."""
        waiting = Deferred.fromCoroutine(self._auth.identify(request))
        finished = request.notifyFinish()
        finished.addErrback(lambda _: waiting.cancel())
        waiting.addCallbacks(
            lambda _: request.render(_Answer(self._serve)), self._refuse, errbackArgs=(request,)
        )
        waiting.addErrback(request.processingFailed)
        return NOT_DONE_YET

    def _refuse(self, failure: Failure, request: Request) -> None:
        if failure.check(CancelledError):
            return  # the client has left
        error = failure.value
        if isinstance(error, NixeryError):
            request.render(_Answer(lambda _: answer_error(request, error)))
            return
        _log.failure("while finding out who asks", failure)
        request.render(_Answer(lambda _: answer(request, _UNKNOWN, "something went wrong here")))

    def _serve(self, request: Request) -> bytes | int:
        """Answer a proper request of someone who is known."""
        if _in_registry(request):
            return cast(int, self._registry.render(request))
        if self._packages is not None and request.path == b"/packages":
            return cast(int, self._packages.render(request))
        if self._builds is not None and re.match(rb"/builds(/|$)", request.path):
            by_page = prefers_html(request) and re.fullmatch(rb"/builds/[^/]+", request.path)
            return cast(int, (self._pages if by_page else self._builds).render(request))
        if request.path == b"/" or re.match(rb"/(images|static)/", request.path):
            return cast(int, self._pages.render(request))
        if request.path == TOKEN_PATH and (token := self._token(request)) is not None:
            return token
        return answer(request, Kind(404, "NOT_FOUND"), "there is nothing at this path")

    def _token(self, request: Request) -> bytes | None:
        try:
            return self._auth.token(request)
        except NixeryError as error:
            return answer_error(request, error)


class _Answer(Resource):
    """Answers a request whose resource had to wait."""

    isLeaf = True

    def __init__(self, give: Callable[[Request], bytes | int]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._give = give

    def render(self, request: Request) -> bytes | int:
        """Answer it."""
        return self._give(request)


def _in_registry(request: Request) -> bool:
    return re.match(rb"/v2(/|\?|$)", request.path) is not None


def _fault(request: Request) -> str | None:
    """What makes a request improper, if anything does."""
    hosts = request.requestHeaders.getRawHeaders(b"host", [])
    if len(hosts) != 1 or not HOST.fullmatch(hosts[0]):
        return "a request has one Host header with the name of a host"
    if not request.uri.startswith(b"/"):
        return "a request's target is a path"
    if len(request.uri) > _LONGEST_PATH:
        return f"a request's target has at most {_LONGEST_PATH} bytes"
    try:
        path = b"/".join(request.postpath or []).decode("utf-8")
    except UnicodeDecodeError:
        return "a path is UTF-8"
    return None if path.isprintable() else "a path holds no control characters"


class PlainChannel(HTTPChannel):
    """HTTP/1.1 that hangs up on a TLS handshake at once.

    docker tries TLS first even with registries on localhost, and would wait ten seconds for an
    answer to a handshake that, having no line end, is no request yet.
    """

    _fresh = True
    site: "QuietSite"

    def connectionMade(self) -> None:
        super().connectionMade()  # type: ignore[no-untyped-call]
        self.site.channels.add(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.site.channels.discard(self)
        super().connectionLost(reason)  # type: ignore[no-untyped-call]

    def dataReceived(self, data: bytes) -> None:
        if self._fresh and data.startswith(_TLS_HANDSHAKE):
            self.loseConnection()  # type: ignore[no-untyped-call]
            return
        self._fresh = False
        super().dataReceived(data)  # type: ignore[no-untyped-call]

    def checkPersistence(self, request: BaseRequest, version: bytes) -> bool:
        if self.site.stopping:
            request.setHeader(b"Connection", b"close")
            return False
        return bool(super().checkPersistence(request, version))  # type: ignore[no-untyped-call]

    def retire(self) -> None:
        """Close the connection, after the answer that is on its way."""
        self.persistent = False
        for request in self.requests:
            request.setHeader(b"Connection", b"close")
        if not self.requests:
            self.loseConnection()  # type: ignore[no-untyped-call]


class QuietSite(Site):
    """A site without an access log: pulls and builds are logged where they are understood.

    :ivar stopping: whether connections are kept no longer than for one answer.
    """

    protocol = PlainChannel  # type: ignore[assignment]
    trusted = NOBODY
    stopping = False

    def __init__(
        self, root: Root, reactor: IWebReactor, holding: Holding, in_flight: InFlight
    ) -> None:
        super().__init__(  # type: ignore[no-untyped-call]
            root, requestFactory=RegistryRequest, timeout=IDLE, reactor=reactor
        )
        self.channels: set[PlainChannel] = set()
        self._holding = holding
        self._in_flight = in_flight

    def log(self, request: BaseRequest) -> None:
        """Say nothing."""

    async def drain(self, handover: bool) -> None:
        """Wait until the registry has answered everybody.

        :param handover: whether those who wait for builds are sent elsewhere at once, rather
            than when this is cancelled.
        """
        self.stopping = True
        for channel in list(self.channels):
            channel.retire()
        if handover:
            self._holding.release()
        try:
            await self._in_flight.none()
        finally:
            self._holding.release()


def make_site(
    reactor: IWebReactor,
    builder: IBuilder,
    storage: IStorage,
    hold_limit: float,
    pages: PagesApi,
    builds: BuildsApi | None = None,
    packages: PackagesApi | None = None,
    auth: Auth = OPEN,
    trusted: Trusted = NOBODY,
) -> QuietSite:
    """The HTTP server's factory.

    :param hold_limit: seconds that a request waits for a build before it is redirected.
    :param pages: what people see.
    :param builds: shows builds; none if nobody is to see them.
    :param packages: answers ``/packages``, which is not there without it.
    :param auth: lets through what a client may pull.
    :param trusted: the proxies that are believed.
    """
    holding, in_flight = Holding(reactor, hold_limit), InFlight()
    api = RegistryApi(reactor, builder, storage, holding, builds is not None, auth)
    root = Root(api, pages, builds, packages, auth, in_flight)
    site = QuietSite(root, reactor, holding, in_flight)
    site.trusted = trusted
    return site
