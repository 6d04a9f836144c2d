"""Requests, and who they come from: behind proxies that are trusted, too."""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from types import MappingProxyType
from urllib.parse import parse_qs, urlsplit

import attrs
from twisted.internet.address import UNIXAddress
from twisted.internet.interfaces import IAddress, IPushProducer
from twisted.web.http_headers import Headers
from twisted.web.resource import IResource

from nixery.http.routes import NOWHERE, Route
from nixery.http.twisted_private import OpenRequest
from nixery.model.networks import network_of
from nixery.model.request_key import is_request_id
from nixery.model.rules import ANONYMOUS, Who

MOST_BODY = 64 * 1024
"""Bytes of a request's body that nothing wants, so that it is dropped."""
HOST = re.compile(rb"[A-Za-z0-9._\-\[\]:%]{1,255}")
_ABSOLUTE = re.compile(rb"https?://([^/?#]*)(.*)", re.IGNORECASE | re.DOTALL)
_TAG = re.compile(r'(?:W/)?"([^"]*)"')
_WITH_PORT = re.compile(r"\[([^\]]*)\](?::[0-9]+)?|([0-9.]+):[0-9]+")

Address = IPv4Address | IPv6Address


@attrs.frozen
class Trusted:
    """The proxies whose ``X-Forwarded-*`` headers are believed.

    :param unix: whether clients of a UNIX socket are.
    """

    networks: Sequence[IPv4Network | IPv6Network] = ()
    unix: bool = False

    @classmethod
    def parse(cls, text: str) -> "Trusted":
        """Read addresses and networks with spaces or commas between them, or the word ``unix``.

        :raises ValueError: if one is something else.
        """
        words = text.replace(",", " ").split()
        networks = tuple(_read_network(word) for word in words if word != "unix")
        return cls(networks, "unix" in words)

    def __contains__(self, address: Address | None) -> bool:
        """Whether an address, none for a UNIX socket, is a proxy's."""
        return self.unix if address is None else any(address in each for each in self.networks)


NOBODY = Trusted()


class BodyTooLarge(Exception):
    """More of a body has come than is taken."""


class RequestBody:
    """The body of a request where nothing wants one: it is dropped as it comes.

    :cvar most: bytes that it may have.
    """

    most = MOST_BODY

    def add(self, data: bytes) -> None:
        """Take the next piece."""


class SmallBody(RequestBody):
    """A body that is kept.

    :ivar content: what has come of it.
    """

    most = 4096

    def __init__(self) -> None:
        self.content = b""

    def add(self, data: bytes) -> None:
        """Take the next piece."""
        self.content += data


class RegistryRequest(OpenRequest):
    """A request; a trusted proxy says who sends it, and to which address it was sent.

    :ivar route: of its path, once that is known.
    :ivar variables: of the route.
    :ivar who: who sends it, once that is known.
    :ivar build: the ID of the build that its answer waited for, if it did.
    :ivar error_code: the precise code of the error that it was answered with, if it was.
    :ivar told: that error's cause in a line, for the log.
    :ivar access: what decided about access when it came: see :meth:`nixery.web.auth.Auth.files`.
    :ivar body: takes its body, as the site decides by the path.
    :ivar again: says of its answer whether it may be given again: see :meth:`keep`.
    """

    route: Route = NOWHERE
    variables: Mapping[str, str] = MappingProxyType({})
    who: Who = ANONYMOUS
    build = ""
    error_code = ""
    told = ""
    access: tuple[object, ...] = ()
    again: Callable[[], bool] | None = None
    body: RequestBody = RequestBody()
    _received = 0

    def keep(self, again: Callable[[], bool]) -> None:
        """Have the answer kept for whoever sends the same request; to be called before any of it
        is written.

        :param again: says whether it still holds; if so, it is about to be given again. It costs
            next to nothing.
        """
        self.again = again

    def setHeader(self, name: bytes, value: bytes) -> None:
        """Set a header of the answer."""
        self.responseHeaders.setRawHeaders(name, [value])

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """Take a request; a target in absolute form replaces its Host header.

        RFC 9112 section 3.2.2 has it so. A Host header that is wrong remains to be refused.
        """
        authority, target = split_target(path)
        if authority is not None and has_host(self.requestHeaders, version):
            self.requestHeaders.setRawHeaders(b"Host", [authority])
        super().requestReceived(command, target, version)  # type: ignore[no-untyped-call]

    def render(self, resrc: IResource) -> None:
        """Answer with what a resource gives, under the request's ID."""
        self.setHeader(b"Server", b"nixery")
        self.setHeader(b"X-Request-ID", self.id.encode("ascii"))
        super().render(resrc)  # type: ignore[no-untyped-call]

    def handleContentChunk(self, data: bytes) -> None:
        """Pass on a piece of the body.

        :raises BodyTooLarge: if there is more of it than its path takes.
        """
        self._received += len(data)
        if self._received > self.body.most:
            raise BodyTooLarge
        self.body.add(data)

    def registerProducer(self, producer: IPushProducer, streaming: bool) -> None:
        """Let something write when the client takes more; stop it if the client has left.

        Twisted would raise: the writer may learn later than the request that the client has left.
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

    def getRequestHostname(self) -> bytes:
        """A constant: what the client says must not get into redirects."""
        return b"registry"

    @property
    def trusted(self) -> Trusted:
        """The proxies that its site trusts."""
        trusted: Trusted = self.site.trusted  # type: ignore[union-attr]
        return trusted

    @property
    def shows_builds(self) -> bool:
        """Whether its site has pages of builds and packages."""
        shows: bool = self.site.shows_builds  # type: ignore[union-attr]
        return shows

    @cached_property
    def is_of_proxy(self) -> bool:
        """Whether it comes from a proxy that is trusted."""
        return self._peer in self.trusted

    @cached_property
    def id(self) -> str:
        """Its ID in logs: given by a trusted proxy, or else random."""
        if self.is_of_proxy:
            return id_from(self.getHeader(b"x-request-id") or b"")
        return new_id()

    @cached_property
    def sender(self) -> str:
        """The address of the client, in front of all trusted proxies.

        It is ``unix`` for clients of a UNIX socket.
        """
        lines = self.requestHeaders.getRawHeaders(b"x-forwarded-for", [])
        return sender_of(self._peer, lines, self.trusted)

    @cached_property
    def network(self) -> str:
        """The smallest network that one person has addresses of: what bounds are for."""
        return network_of(self.sender)

    @property
    def holder(self) -> str:
        """The user or network whose fair share it counts for."""
        return self.network if self.who.name is None else f"user {self.who.name}"

    @property
    def origin(self) -> str:
        """The scheme and host that the client asked, as in ``https://registry.example``."""
        scheme = b"https" if self.isSecure() else b"http"
        host = self.getHeader(b"host") or self._address_asked()
        if self.is_of_proxy:
            scheme = self._last(b"x-forwarded-proto", re.compile(b"https?")) or scheme
            host = self._last(b"x-forwarded-host", HOST) or host
        return f"{scheme.decode('ascii')}://{host.decode('ascii', 'replace')}"

    @property
    def asked_host(self) -> str:
        """The host that the client asked, with its port if it named one."""
        return self.origin.partition("://")[2]

    @property
    def query(self) -> dict[str, list[str]]:
        """The parameters of its query, empty ones too."""
        text = urlsplit(self.uri.decode("latin-1")).query
        return parse_qs(text, keep_blank_values=True)

    def parameter(self, name: str) -> str:
        """The first value of a parameter that has one, or nothing."""
        return next(filter(None, self.query.get(name, [])), "")

    def header(self, name: bytes) -> str:
        """A header's value, or nothing."""
        return (self.getHeader(name) or b"").decode("latin-1")

    def has_current(self, tag: str) -> bool:
        """Whether its ``If-None-Match`` header has an entity tag, weakly compared.

        RFC 9110 sections 8.8.3 and 13.1.2 have it so; werkzeug takes more for a tag, or a ``*``.
        """
        header = self.header(b"if-none-match")
        return header.strip() == "*" or tag in _TAG.findall(header)

    def wants_range_of(self, tag: str) -> bool:
        """Whether it has a ``Range`` header that is meant for what has an entity tag.

        ``If-Range`` with a date, or with a weak tag, is for nothing here.
        """
        condition = self.header(b"if-range").strip()
        return bool(self.header(b"range")) and condition in ("", f'"{tag}"')

    @property
    def _peer(self) -> Address | None:
        return peer_address(self.getClientAddress())

    def _address_asked(self) -> bytes:
        """The address at which a request came in that names no host."""
        address = self.getHost()
        if isinstance(address, UNIXAddress):
            return b"localhost"
        host = f"[{address.host}]" if ":" in address.host else address.host
        return f"{host}:{address.port}".encode("ascii")

    def _last(self, name: bytes, form: re.Pattern[bytes]) -> bytes | None:
        """The last of a header's values, which the nearest proxy has put there."""
        lines = self.requestHeaders.getRawHeaders(name, [])
        value = b",".join(lines).rpartition(b",")[2].strip()
        return value if form.fullmatch(value) else None


def split_target(target: bytes) -> tuple[bytes | None, bytes]:
    """Take the target of a request apart, in each of the forms of RFC 9112 section 3.2.

    :return: the authority of one in absolute form, as clients send it that think of us as a proxy,
        none for the other forms; and path and query. What is in none of the forms stays as it is.
    """
    match = _ABSOLUTE.fullmatch(target)
    if match is None:
        return None, target
    authority, rest = match.groups()
    return authority, rest if rest.startswith(b"/") else b"/" + rest


def has_host(headers: Headers, version: bytes) -> bool:
    """Whether a request names its host as it must: once, which HTTP/1.0 may leave out."""
    hosts = headers.getRawHeaders(b"host", [])
    if not hosts:
        return version == b"HTTP/1.0"
    return len(hosts) == 1 and HOST.fullmatch(hosts[0]) is not None


def new_id() -> str:
    """A random ID for a request."""
    return os.urandom(8).hex()


def id_from(said: bytes) -> str:
    """The ID for a request of a trusted proxy.

    :param said: the ID that the proxy gave it; a random one replaces what is none.
    """
    return said.decode("ascii") if is_request_id(said) else new_id()


def sender_of(peer: Address | None, forwarded: Iterable[bytes], trusted: Trusted) -> str:
    """The address of a client, in front of all trusted proxies; ``unix`` for a UNIX socket.

    :param forwarded: the values of the ``X-Forwarded-For`` headers, which a trusted peer may send.
    """
    address = peer
    if peer in trusted:
        for address in _hops(forwarded):
            if address not in trusted:
                break
    return "unix" if address is None else str(address)


def peer_address(peer: IAddress) -> Address | None:
    """The address of a peer; none for a UNIX socket."""
    if isinstance(peer, UNIXAddress):
        return None
    return read_address(str(getattr(peer, "host", "")))


def _hops(lines: Iterable[bytes]) -> Iterator[Address]:
    """The addresses that proxies name, the nearest first, up to the first that is none."""
    for word in reversed(b",".join(lines).decode("latin-1").split(",")):
        match = _WITH_PORT.fullmatch(word.strip())
        try:
            hop = read_address((match[1] or match[2]) if match else word.strip())
        except ValueError:
            return
        yield hop


def _read_network(text: str) -> IPv4Network | IPv6Network:
    """A network; one of IPv4 that is written as one of IPv6 is the former."""
    network = ip_network(text)
    first = read_address(str(network.network_address))
    if network.version == first.version or network.prefixlen < 96:
        return network
    return ip_network((first, network.prefixlen - 96))


@lru_cache(maxsize=4096)  # each request asks several times, and reading one is slow
def read_address(text: str) -> Address:
    """An address; one of IPv4 that is written as one of IPv6 is the former."""
    address = ip_address(text.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
