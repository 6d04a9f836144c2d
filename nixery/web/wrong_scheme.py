"""Answering, in plain HTTP, whoever speaks that where TLS is spoken."""

from twisted.web.resource import Resource
from twisted.web.server import Request

from nixery.web.answers import Kind, answer
from nixery.web.bounded import BoundedSite
from nixery.web.framing import PLAIN_IN_TLS
from nixery.web.request import has_host

_KIND = Kind(PLAIN_IN_TLS.status, PLAIN_IN_TLS.code)


class UseTLS(Resource):
    """Says that TLS is spoken here, and serves nothing.

    Docker is redirected to where it has been. What a registry on its own machine refuses over
    TLS, as it does a login with a wrong password, Docker tries again in plain HTTP, and shows
    the last answer alone: that is the refusal, then.
    """

    isLeaf = True

    def render(self, request: Request) -> bytes:
        """Refuse a request, or redirect it."""
        request.setHeader(b"Server", b"nixery")
        host = request.getHeader(b"host")
        if not host or not _is_of_docker(request):
            return answer(request, _KIND, PLAIN_IN_TLS.message)
        request.setResponseCode(307)
        request.setHeader(b"Location", b"https://" + host + request.uri)
        request.setHeader(b"Content-Length", b"0")
        return b""


class PlainSite(BoundedSite):
    """The site of those who speak plain HTTP where TLS is spoken: one answer for each."""

    stopping = True

    def __init__(self, site: BoundedSite) -> None:
        """
        :param site: the one that they did not reach; they count as its clients.
        """
        super().__init__(UseTLS(), site.reactor, site.bounds)  # type: ignore[no-untyped-call]
        self.trusted = site.trusted


def _is_of_docker(request: Request) -> bool:
    """Whether Docker asks, and in a way that it can be redirected by."""
    is_proper = has_host(request.requestHeaders, request.clientproto)
    is_proper = is_proper and request.uri.startswith(b"/") and request.method in (b"GET", b"HEAD")
    return is_proper and (request.getHeader(b"user-agent") or b"").startswith(b"docker/")
