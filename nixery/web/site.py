"""The HTTP server: what is checked of every request before anything else sees it."""

import re
from typing import cast

from twisted.web.http import HTTPChannel
from twisted.web.http import Request as BaseRequest
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from nixery.interfaces import IBuilder, IStorage
from nixery.web.answers import Kind, answer
from nixery.web.builds import BuildsApi
from nixery.web.packages import PackagesApi
from nixery.web.pages.page import prefers_html
from nixery.web.pages.site import PagesApi
from nixery.web.registry import IWebReactor, RegistryApi

IDLE = 120
"""Seconds after which a connection without a request is closed."""
_HOST = re.compile(rb"[A-Za-z0-9._\-\[\]:%]{1,255}")
_ALLOWED = (b"GET", b"HEAD")
_LONGEST_PATH = 2048
_TLS_HANDSHAKE = b"\x16\x03"


class RegistryRequest(Request):
    """A request whose ``Host`` header is nobody's business but the start page's."""

    def getRequestHostname(self) -> bytes:
        """A constant: Klein would put what the client says into redirects."""
        return b"registry"


class Root(Resource):
    """Refuses what is no proper request, and hands on the rest."""

    isLeaf = True

    def __init__(
        self,
        api: RegistryApi,
        pages: PagesApi,
        builds: BuildsApi | None,
        packages: PackagesApi | None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._registry = api.app.resource()
        self._pages = pages.app.resource()
        self._builds = builds.app.resource() if builds is not None else None
        self._packages = packages.app.resource() if packages is not None else None

    def render(self, request: Request) -> bytes | int:
        """Answer a request; errors below ``/v2`` have the registry's form."""
        request.setHeader(b"Server", b"nixery")
        in_registry = re.match(rb"/v2(/|\?|$)", request.path) is not None
        if in_registry:
            request.setHeader(b"Docker-Distribution-Api-Version", b"registry/2.0")
        fault = _fault(request)
        if fault is not None:
            return answer(request, Kind(400, "UNSUPPORTED"), fault)
        if request.method not in _ALLOWED:
            request.setHeader(b"Allow", b", ".join(_ALLOWED))
            kind = Kind(405, "UNSUPPORTED")
            return answer(request, kind, "images are made on demand: this registry is read-only")
        if in_registry:
            return cast(int, self._registry.render(request))
        if self._packages is not None and request.path == b"/packages":
            return cast(int, self._packages.render(request))
        if self._builds is not None and re.match(rb"/builds(/|$)", request.path):
            by_page = prefers_html(request) and re.fullmatch(rb"/builds/[^/]+", request.path)
            return cast(int, (self._pages if by_page else self._builds).render(request))
        if request.path == b"/" or re.match(rb"/(images|static)/", request.path):
            return cast(int, self._pages.render(request))
        return answer(request, Kind(404, "NOT_FOUND"), "there is nothing at this path")


def _fault(request: Request) -> str | None:
    """What makes a request improper, if anything does."""
    hosts = request.requestHeaders.getRawHeaders(b"host", [])
    if len(hosts) != 1 or not _HOST.fullmatch(hosts[0]):
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

    def dataReceived(self, data: bytes) -> None:
        if self._fresh and data.startswith(_TLS_HANDSHAKE):
            self.loseConnection()  # type: ignore[no-untyped-call]
            return
        self._fresh = False
        super().dataReceived(data)  # type: ignore[no-untyped-call]


class QuietSite(Site):
    """A site without an access log: pulls and builds are logged where they are understood."""

    protocol = PlainChannel  # type: ignore[assignment]

    def log(self, request: BaseRequest) -> None:
        """Say nothing."""


def make_site(
    reactor: IWebReactor,
    builder: IBuilder,
    storage: IStorage,
    hold_limit: float,
    pages: PagesApi,
    builds: BuildsApi | None = None,
    packages: PackagesApi | None = None,
) -> Site:
    """The HTTP server's factory.

    :param hold_limit: seconds that a request waits for a build before it is redirected.
    :param pages: what people see.
    :param builds: shows builds; none if nobody is to see them.
    :param packages: answers ``/packages``, which is not there without it.
    """
    api = RegistryApi(reactor, builder, storage, hold_limit, builds is not None)
    root = Root(api, pages, builds, packages)
    return QuietSite(  # type: ignore[no-untyped-call]
        root, requestFactory=RegistryRequest, timeout=IDLE, reactor=reactor
    )
