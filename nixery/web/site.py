"""The HTTP server: what is checked of every request before anything else sees it."""

import re
from collections.abc import Callable
from contextlib import suppress
from typing import cast

from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from nixery.builds.cache import Cache
from nixery.builds.served import ServedImages
from nixery.http.answers import RETRY_AFTER, Kind, answer, answer_error, log_fault
from nixery.http.bounded import BoundedSite
from nixery.http.bounds import Bounds, Requests
from nixery.http.fair import FairStarts
from nixery.http.request import (
    NOBODY,
    Trusted,
    client_of,
    has_host,
)
from nixery.interfaces import IBuilder, IStorage
from nixery.model.errors import NixeryError
from nixery.model.limits import HttpLimits
from nixery.model.networks import network_of
from nixery.reactor import IReactor
from nixery.web.access_log import IMeter, NoMeter, Tally
from nixery.web.auth import OPEN, TOKEN_PATH, Auth
from nixery.web.builds import BuildsApi
from nixery.web.holding import Holding
from nixery.web.operations import METRICS, PROBES, Operations
from nixery.web.packages import PackagesApi
from nixery.web.pages.api import PagesApi
from nixery.web.pages.page import prefers_html
from nixery.web.v2 import RegistryApi

ANSWER = 4.0
"""Seconds in which an answer begins to leave when the daemon stops: more than a request on its way
gets to arrive."""
ASK_AGAIN = 1.0
"""Seconds in which who was held can ask again, to be told why."""
LAST_WORDS = 1.0
"""Seconds that what was written last may take to leave."""
_UNKNOWN = Kind(500, "UNKNOWN")
_ALLOWED = (b"GET", b"HEAD")
_LONGEST_PATH = 2048
_LIMITS = HttpLimits()
# What is cheap, and asked to know whether anybody is there.
_ALWAYS = (b"/v2/", b"/v2", b"/healthz", b"/readyz", b"/metrics")


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
        requests: Requests,
        starts: FairStarts,
        tally: Tally,
        operations: Operations | None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._tally = tally
        self._operations = operations
        self._requests = requests
        self._starts = starts
        self._registry = api.app.resource()
        self._pages = pages.app.resource()
        self._auth = auth
        self._builds = builds.app.resource() if builds is not None else None
        self._packages = packages.app.resource() if packages is not None else None

    def render(self, request: Request) -> bytes | int:
        """Answer a request; errors below ``/v2`` have the registry's form."""
        self._tally.begin(request)
        request.setHeader(b"Server", b"nixery")
        if _in_registry(request):
            request.setHeader(b"Docker-Distribution-Api-Version", b"registry/2.0")
        fault = _fault(request)
        if fault is not None:
            return answer(request, Kind(400, "UNSUPPORTED"), fault)
        if request.method not in _ALLOWED:
            request.setHeader(b"Allow", b", ".join(_ALLOWED))
            kind = Kind(405, "UNSUPPORTED")
            return answer(request, kind, "images are made on demand: this registry is read-only")
        client = network_of(client_of(request))
        if not self._begin(request, client):
            request.setHeader(b"Retry-After", b"%d" % RETRY_AFTER)
            kind = Kind(429, "TOOMANYREQUESTS")
            return answer(request, kind, "too many requests from your address at once")
        if self._operations is not None and request.path in PROBES:
            return self._operations.render(request)
        running = self._requests.of(client)
        if self._starts.has_time(running):
            return self._starts.begin(lambda: self._proceed(request))
        self._starts.later(client, running, lambda: self._proceed_with(request))
        return NOT_DONE_YET

    def _proceed(self, request: Request) -> bytes | int:
        return self._serve(request) if self._auth.is_open else self._identify(request)

    def _proceed_with(self, request: Request) -> None:
        """Answer a request that had to wait, unless its client has left."""
        if request.channel is None:
            return
        try:
            request.render(_Answer(self._proceed))
        except Exception:  # as Twisted does for requests that do not wait; others wait here
            request.processingFailed(Failure())

    def _begin(self, request: Request, client: str) -> bool:
        """Count a request until it is answered, if its client has not too many already."""
        # Nobody knows how many clients are behind a UNIX socket.
        if not self._requests.begin(client, request.path in _ALWAYS or client == "unix"):
            return False
        request.notifyFinish().addBoth(lambda _: self._requests.end(client))
        return True

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
        log_fault(request, failure)
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
        if request.path == METRICS and self._operations is not None:
            return self._operations.render(request)
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
    if not has_host(request.requestHeaders, request.clientproto):
        return "a request has one Host header with the name of a host"
    if request.method == b"OPTIONS" and request.uri == b"*":
        return None
    if not request.uri.startswith(b"/"):
        return "a request's target is a path"
    if len(request.uri) > _LONGEST_PATH:
        return f"a request's target has at most {_LONGEST_PATH} bytes"
    try:
        path = b"/".join(request.postpath or []).decode("utf-8")
    except UnicodeDecodeError:
        return "a path is UTF-8"
    return None if path.isprintable() else "a path holds no control characters"


class QuietSite(BoundedSite):
    """The site of the registry: pulls and builds are logged where they are understood."""

    def __init__(self, root: Root, reactor: IReactor, bounds: Bounds, holding: Holding) -> None:
        super().__init__(root, reactor, bounds)
        self._holding = holding

    async def release(self, handover: bool) -> None:
        """Hold nobody any more, and keep no connection for longer than an answer.

        :param handover: whether another daemon answers those who ask again; otherwise, they are
            given a moment to do so here: docker asks by HEAD first, and shows no answer to that.
        """
        self.stopping = True
        self.bounds.connections.retire()
        if self._holding.release(handover) and not handover:
            await deferLater(self._clock, ASK_AGAIN)

    async def drain(self) -> None:
        """Wait until everybody is answered.

        Of those to whom no answer has begun to leave after a while, nobody is waited for: what
        they ask takes long, and they ask again.
        """
        connections = self.bounds.connections
        answered = connections.answered()
        late = self._clock.callLater(ANSWER, connections.forsake)
        try:
            await answered
        finally:
            if late.active():
                late.cancel()

    async def leave(self) -> None:
        """Let those be answered who were told of an end just now, as by the events of a build."""
        closed = self.bounds.connections.closed()
        with suppress(CancelledError, TimeoutError):
            await closed.addTimeout(LAST_WORDS, self._clock)


def make_site(
    reactor: IReactor,
    builder: IBuilder,
    storage: IStorage,
    hold_limit: float,
    pages: PagesApi,
    builds: BuildsApi | None = None,
    packages: PackagesApi | None = None,
    auth: Auth = OPEN,
    trusted: Trusted = NOBODY,
    limits: HttpLimits = _LIMITS,
    meter: IMeter | None = None,
    operations: Operations | None = None,
) -> QuietSite:
    """The HTTP server's factory.

    :param hold_limit: seconds that a request waits for a build before it is redirected.
    :param pages: what people see.
    :param builds: shows builds; none if nobody is to see them.
    :param packages: answers ``/packages``, which is not there without it.
    :param auth: lets through what a client may pull.
    :param trusted: the proxies that are believed.
    :param limits: what clients may ask of it.
    :param meter: takes note of what is answered.
    :param operations: tells how the daemon is; none where that is not to be asked here.
    """
    bounds = Bounds(limits)
    holding = Holding(reactor, hold_limit)
    # A cache of its own, and a small one: only manifests that are looked into are in it.
    cache = Cache(storage, remembered=64)
    served = ServedImages(reactor, storage, cache) if auth.is_selective else None
    api = RegistryApi(reactor, builder, storage, holding, builds is not None, auth, served)
    tally, starts = Tally(reactor, meter or NoMeter()), FairStarts(reactor)
    root = Root(api, pages, builds, packages, auth, bounds.requests, starts, tally, operations)
    site = QuietSite(root, reactor, bounds, holding)
    site.trusted = trusted
    return site
