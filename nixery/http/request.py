"""Requests, and who they come from: behind proxies that are trusted, too."""

import re
import secrets
from collections.abc import Iterator, Sequence
from functools import cached_property, lru_cache
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

import attrs
from twisted.internet.address import UNIXAddress
from twisted.internet.interfaces import IAddress, IPushProducer
from twisted.web.http_headers import Headers
from twisted.web.resource import IResource, Resource
from twisted.web.server import Request

from nixery.http.framing import MOST_BODY, BodyTooLarge
from nixery.http.target import split_target
from nixery.model.networks import network_of
from nixery.model.rules import ANONYMOUS, Who

HOST = re.compile(rb"[A-Za-z0-9._\-\[\]:%]{1,255}")
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_WITH_PORT = re.compile(r"\[([^\]]*)\](?::[0-9]+)?|([0-9.]+):[0-9]+")

Address = IPv4Address | IPv6Address


@attrs.frozen
class Trusted:
    """The proxies whose ``X-Forwarded-*`` headers are believed.

    :param unix: whether whoever connects over a UNIX socket is one.
    """

    networks: Sequence[IPv4Network | IPv6Network] = ()
    unix: bool = False

    @classmethod
    def parse(cls, text: str) -> "Trusted":
        """Read addresses and networks with spaces or commas between them, or the word ``unix``.

        :raises ValueError: if one is something else.
        """
        words = text.replace(",", " ").split()
        networks = tuple(ip_network(word) for word in words if word != "unix")
        return cls(networks, "unix" in words)

    def __contains__(self, address: Address | None) -> bool:
        """Whether an address, none for a UNIX socket, is a proxy's."""
        return self.unix if address is None else any(address in each for each in self.networks)


NOBODY = Trusted()


class RegistryRequest(Request):
    """A request whose ``Host`` header is nobody's business but that of :func:`origin_of`.

    :ivar who: who sends it, once that is known.
    :ivar build: the ID of the build that its answer waited for, if it did.
    :ivar error_code: the precise code of the error that it was answered with, if it was.
    :ivar told: that error's cause in a line, for the log.
    """

    who: Who = ANONYMOUS
    build = ""
    error_code = ""
    told = ""
    _received = 0

    @cached_property
    def id(self) -> str:
        """What the request is called in logs: by a proxy that is trusted, or else by us."""
        if _peer(self) in self.trusted:
            said = self.getHeader(b"x-request-id") or b""
            if _REQUEST_ID.fullmatch(said):
                return said.decode("ascii")
        return new_id()

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """Take a request that has come; a target in absolute form counts for its host too.

        RFC 9112 section 3.2.2 has it so. A Host header that is wrong remains to be refused.
        """
        authority, target = split_target(path)
        if authority is not None and has_host(self.requestHeaders, version):
            self.requestHeaders.setRawHeaders(b"Host", [authority])
        super().requestReceived(command, target, version)  # type: ignore[no-untyped-call]

    def process(self) -> None:
        """Have the request answered, by an answer that says what it is called."""
        self.site = self.channel.site  # type: ignore[attr-defined]
        self.responseHeaders.setRawHeaders(b"X-Request-ID", [self.id.encode("ascii")])
        super().process()  # type: ignore[no-untyped-call]

    def handleContentChunk(self, data: bytes) -> None:
        """Drop a piece of the body, which nothing here wants.

        :raises BodyTooLarge: if it goes on and on.
        """
        self._received += len(data)
        if self._received > MOST_BODY:
            raise BodyTooLarge

    def render(self, resrc: IResource) -> None:
        """Answer with what a resource gives.

        Of a body that is not sent, since HEAD asks for none, Twisted would tell the log, and in
        the client's words.
        """
        super().render(_Headers(resrc) if self.method == b"HEAD" else resrc)  # type: ignore[no-untyped-call]

    def registerProducer(self, producer: IPushProducer, streaming: bool) -> None:
        """Let something write when the client takes more; nothing does once the client has left.

        Twisted would raise: whoever writes may learn later than the request that nobody reads.
        """
        if self.channel is None:
            producer.stopProducing()
        else:
            super().registerProducer(producer, streaming)  # type: ignore[no-untyped-call]

    def unregisterProducer(self) -> None:
        """Expect no more of what was registered; harmless when the client has left."""
        if self.channel is not None:
            super().unregisterProducer()  # type: ignore[no-untyped-call]
        else:
            self.producer = None

    def _handleStar(self) -> None:
        """Answer a request for ``*`` like others; Twisted would do it on its own."""
        assert self.site is not None
        self.render(self.site.getResourceFor(self))

    def getRequestHostname(self) -> bytes:
        """A constant: Klein would put what the client says into redirects."""
        return b"registry"

    @property
    def trusted(self) -> Trusted:
        """The proxies that its site trusts."""
        trusted: Trusted = getattr(self.site, "trusted", NOBODY)
        return trusted


class _Headers(Resource):
    """A resource whose body only counts for its length."""

    isLeaf = True

    def __init__(self, whole: IResource) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._whole = whole

    def render(self, request: Request) -> bytes | int:
        """The headers of an answer."""
        body: bytes | int = self._whole.render(request)
        if not isinstance(body, bytes):
            return body
        if body:
            request.setHeader(b"Content-Length", b"%d" % len(body))
        return b""


def has_host(headers: Headers, version: bytes) -> bool:
    """Whether a request names its host as it must: once, and HTTP/1.0 not at all if it likes."""
    hosts = headers.getRawHeaders(b"host", [])
    if not hosts:
        return version == b"HTTP/1.0"
    return len(hosts) == 1 and HOST.fullmatch(hosts[0]) is not None


def new_id() -> str:
    """What another request is called."""
    return secrets.token_hex(8)


def client_of(request: Request) -> str:
    """The address of the client, in front of all proxies that are trusted.

    :return: ``unix`` for whoever connects over a UNIX socket.
    """
    trusted, address = _trusted(request), _peer(request)
    if address in trusted:
        for hop in _hops(request):
            address = hop
            if hop not in trusted:
                break
    return "unix" if address is None else str(address)


def name_of(request: Request) -> str:
    """What a request is called in the log."""
    return request.id if isinstance(request, RegistryRequest) else ""


def holder_of(request: Request) -> str:
    """Whose share a request counts for, where things are shared out: the user's or the client's."""
    who = request.who if isinstance(request, RegistryRequest) else ANONYMOUS
    return f"user {who.name}" if who.name is not None else network_of(client_of(request))


def origin_of(request: Request) -> str:
    """The scheme and host that the client asked, as in ``https://registry.example``."""
    scheme = b"https" if request.isSecure() else b"http"
    host = request.getHeader(b"host") or _address_asked(request)
    if _peer(request) in _trusted(request):
        scheme = _last(request, b"x-forwarded-proto", re.compile(b"https?")) or scheme
        host = _last(request, b"x-forwarded-host", HOST) or host
    return f"{scheme.decode('ascii')}://{host.decode('ascii', 'replace')}"


def host_of(request: Request) -> str:
    """The host that the client asked, with its port if it named one."""
    return origin_of(request).partition("://")[2]


def _address_asked(request: Request) -> bytes:
    """Where a request came in that names no host."""
    address = request.getHost()
    if isinstance(address, UNIXAddress):
        return b"localhost"
    host = f"[{address.host}]" if ":" in address.host else address.host
    return f"{host}:{address.port}".encode("ascii")


def _trusted(request: Request) -> Trusted:
    return request.trusted if isinstance(request, RegistryRequest) else NOBODY


def _peer(request: Request) -> Address | None:
    return peer_address(request.getClientAddress())


def peer_address(peer: IAddress) -> Address | None:
    """The address of whoever has connected; none for a UNIX socket."""
    if isinstance(peer, UNIXAddress):
        return None
    return read_address(str(getattr(peer, "host", "")))


def _hops(request: Request) -> Iterator[Address]:
    """The addresses that proxies name, the nearest first, up to the first that is none."""
    lines = request.requestHeaders.getRawHeaders(b"x-forwarded-for", [])
    for word in reversed(b",".join(lines).decode("latin-1").split(",")):
        match = _WITH_PORT.fullmatch(word.strip())
        try:
            hop = read_address((match[1] or match[2]) if match else word.strip())
        except ValueError:
            return
        yield hop


@lru_cache(maxsize=4096)  # each request asks several times, and reading one is slow
def read_address(text: str) -> Address:
    """An address; one of IPv4 that is written as one of IPv6 is the former."""
    address = ip_address(text.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _last(request: Request, name: bytes, form: re.Pattern[bytes]) -> bytes | None:
    """The last of a header's values, which the nearest proxy has put there."""
    lines = request.requestHeaders.getRawHeaders(name, [])
    value = b",".join(lines).rpartition(b",")[2].strip()
    return value if form.fullmatch(value) else None
