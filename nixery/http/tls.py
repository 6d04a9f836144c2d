"""TLS, with certificates that are renewed while the daemon runs."""

import re
from collections.abc import Sequence
from typing import Any, cast

import attrs
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import load_pem_x509_certificates
from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IListeningPort,
    IOpenSSLServerConnectionCreator,
    IProtocolFactory,
    IStreamServerEndpoint,
)
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from nixery.access.watched import FileInvalid, Watched
from nixery.http.answers import UNSUPPORTED, answer, redirect
from nixery.http.bounded_site import AnsweringResource, BoundedSite
from nixery.http.framing import opening_fault
from nixery.http.request import RegistryRequest, has_host
from nixery.http.twisted_private import OpenTLS
from nixery.model.reading import Reading

SENTENCE = "this port speaks TLS and received plain HTTP; use https:// here"
_SEPARATOR = re.compile(r"(?<!\\):")
_NOT_KEPT = ("sslmethod", "dhParameters", "extraCertChain")


@attrs.frozen
class Pair:
    """A certificate and its key, both PEM files.

    :param certificate: path; the certificates that it is signed by may follow in it.
    """

    certificate: str
    key: str


def split_endpoint(endpoint: str) -> tuple[str, Pair | None]:
    """Take TLS out of an endpoint string of Twisted's kind ``ssl:``.

    :return: the rest, a TCP endpoint string; any other string stays as it is.
    :raises ValueError: if it has options that are not supported.
    """
    kind, *parts = _SEPARATOR.split(endpoint)
    if kind != "ssl":
        return endpoint, None
    options = dict(part.split("=", 1) for part in parts if "=" in part)
    if unknown := sorted(options.keys() & set(_NOT_KEPT)):
        raise ValueError(f"{', '.join(unknown)}: certKey may name a file with the whole chain")
    key = _unescaped(options.pop("privateKey", "server.pem"))
    certificate = _unescaped(options.pop("certKey", key))
    rest = [part for part in parts if "=" not in part] + [f"{k}={v}" for k, v in options.items()]
    return ":".join(["tcp", *rest]), Pair(certificate, key)


def _unescaped(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)


@attrs.frozen
class Certificate:
    """The certificate that connections are made with, and its key.

    :param expires: when, in seconds since 1970, the first certificate of the chain is no longer
        valid.
    """

    context: SSL.Context
    expires: float


@attrs.frozen
class Expiry:
    """When the certificates that TLS is spoken with expire."""

    certificates: Sequence["Watched[Certificate]"]

    def readings(self) -> list[Reading]:
        """The metric of the first that expires."""

        def first() -> dict[str, float]:
            times = [each.value.expires for each in self.certificates]
            return {"": min(times)} if times else {}

        text = "When the certificate expires, in seconds since 1970."
        return [Reading("nixery_certificate_expires_seconds", text, first)]


def read_certificate(pair: Pair) -> Certificate:
    """Read a certificate and its key. Blocks.

    :raises FileInvalid: if certificate and key can't be used, or not together.
    :raises OSError: if they can't be read.
    """
    with open(pair.certificate, "rb") as file:
        chain = file.read()
    with open(pair.key, "rb") as file:
        key = _private_key(file.read())
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION)
    try:
        context.use_certificate_chain_file(pair.certificate)
        context.use_privatekey(key)
        context.check_privatekey()
    except SSL.Error as error:
        words = ", ".join(str(each[-1]) for each in error.args[0]) if error.args else ""
        raise FileInvalid(f"can't be used for TLS: {words or 'unknown format'}") from None
    ends = [each.not_valid_after_utc for each in load_pem_x509_certificates(chain)]
    return Certificate(context, min(ends).timestamp())


def _private_key(pem: bytes) -> Any:
    """A key; not by OpenSSL, which would ask for a password at the terminal."""
    try:
        return load_pem_private_key(pem, None)
    except TypeError:
        raise FileInvalid("the key is encrypted; the daemon can't ask for a password") from None
    except (ValueError, UnsupportedAlgorithm):
        raise FileInvalid("not a private key in PEM form") from None


def watch_pair(pair: Pair) -> Watched[Certificate]:
    """Read a certificate and its key, now and whenever they change. Blocks.

    :raises FileInvalid: if they can't be used.
    """
    return Watched([pair.certificate, pair.key], lambda: read_certificate(pair))


@implementer(IOpenSSLServerConnectionCreator)
@attrs.frozen
class CurrentCertificate:
    """Makes each connection with the certificate as it is then."""

    watched: Watched[Certificate]

    def serverConnectionForTLS(self, protocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """The connection that speaks TLS for a protocol."""
        return SSL.Connection(self.watched.value.context, None)


class _Sorting(OpenTLS):
    """A connection that speaks TLS, or else plain HTTP, with a site that is for that."""

    factory: "_SortingFactory"
    _begun = False
    _plain: Any = None

    def dataReceived(self, data: bytes) -> None:
        """Take what comes; the first byte tells what is spoken."""
        if not self._begun:
            self._begun = True
            if opening_fault(data) is None:
                self.end_tls()
                peer = self.transport.getPeer()
                self._plain = self.factory.plain.buildProtocol(peer)  # type: ignore[no-untyped-call]
                self._plain.makeConnection(self.transport)
        if self._plain is None:
            super().dataReceived(data)  # type: ignore[no-untyped-call]
        else:
            self._plain.dataReceived(data)

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        """Tell the protocol that has the connection."""
        if self._plain is None:
            super().connectionLost(reason)
        else:
            self._plain.connectionLost(reason)


class _SortingFactory(TLSMemoryBIOFactory):
    protocol = _Sorting

    def __init__(self, creator: Any, site: BoundedSite) -> None:
        super().__init__(creator, False, cast(Any, site))
        self.plain = PlainSite(site)


class PlainSite(BoundedSite):
    """Tells those who speak plain HTTP where TLS is spoken, with one answer for each.

    Docker is redirected to where it has been. What a registry on its own machine refuses over
    TLS, as it does a login with a wrong password, Docker tries again in plain HTTP, and shows
    the last answer alone: that is the refusal, then.
    """

    stopping = True

    def __init__(self, site: BoundedSite) -> None:
        """
        :param site: the one that they did not reach; they count as its clients.
        """
        super().__init__(AnsweringResource(self._tell), site.reactor, site.bounds)
        self.trusted = site.trusted

    async def _tell(self, request: RegistryRequest) -> bytes:
        host = request.getHeader(b"host")
        if not host or not _is_of_docker(request):
            self.bounds.refused["plain"] += 1
            return answer(request, UNSUPPORTED, SENTENCE)
        return redirect(request, b"https://" + host + request.uri)


def _is_of_docker(request: RegistryRequest) -> bool:
    """Whether Docker asks, in a way in which it can be redirected."""
    is_proper = has_host(request.requestHeaders, request.clientproto)
    is_proper = is_proper and request.uri.startswith(b"/") and request.method in (b"GET", b"HEAD")
    return is_proper and (request.getHeader(b"user-agent") or b"").startswith(b"docker/")


@implementer(IStreamServerEndpoint)
@attrs.frozen
class TLSEndpoint:
    """An endpoint at which TLS is spoken; clients that speak plain HTTP there are told so.

    :param endpoint: the one below, of whatever kind.
    """

    endpoint: IStreamServerEndpoint
    watched: Watched[Certificate]

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        """Listen; what arrives at the factory, a :class:`BoundedSite`, is plain."""
        site = cast(BoundedSite, protocolFactory)
        wrapper: Any = _SortingFactory(CurrentCertificate(self.watched), site)
        return self.endpoint.listen(wrapper)
