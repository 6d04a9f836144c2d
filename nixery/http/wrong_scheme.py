"""Answering, in plain HTTP, whoever speaks that where TLS is spoken."""

from collections import Counter

from twisted.web.resource import Resource
from twisted.web.server import Request

from nixery.http.answers import Kind, answer
from nixery.http.bounded import BoundedSite
from nixery.http.request import has_host

_REFUSAL = Kind(400, "UNSUPPORTED")
SENTENCE = "this port speaks TLS, and that was plain HTTP: use https:// here"


class UseTLS(Resource):
    """Says that TLS is spoken here, and serves nothing.

    Docker is redirected to where it has been. What a registry on its own machine refuses over
    TLS, as it does a login with a wrong password, Docker tries again in plain HTTP, and shows
    the last answer alone: that is the refusal, then.
    """

    isLeaf = True

    def __init__(self, refused: Counter[str]) -> None:
        """
        :param refused: where it is counted who was told so.
        """
        super().__init__()  # type: ignore[no-untyped-call]
        self._refused = refused

    def render(self, request: Request) -> bytes:
        """Refuse a request, or redirect it."""
        request.setHeader(b"Server", b"nixery")
        host = request.getHeader(b"host")
        if not host or not _is_of_docker(request):
            self._refused["plain"] += 1
            return answer(request, _REFUSAL, SENTENCE)
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
        super().__init__(UseTLS(site.bounds.refused), site.reactor, site.bounds)
        self.trusted = site.trusted


def _is_of_docker(request: Request) -> bool:
    """Whether Docker asks, and in a way that it can be redirected by."""
    is_proper = has_host(request.requestHeaders, request.clientproto)
    is_proper = is_proper and request.uri.startswith(b"/") and request.method in (b"GET", b"HEAD")
    return is_proper and (request.getHeader(b"user-agent") or b"").startswith(b"docker/")
