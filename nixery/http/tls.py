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
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    IListeningPort,
    IOpenSSLServerConnectionCreator,
    IProtocolFactory,
    IStreamServerEndpoint,
)
from twisted.protocols.tls import (
    BufferingTLSTransport,
    TLSMemoryBIOFactory,
    TLSMemoryBIOProtocol,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from nixery.access.watched import FileInvalid, Watched
from nixery.http.bounded import BoundedSite
from nixery.http.framing import opening_fault
from nixery.http.wrong_scheme import PlainSite
from nixery.model.reading import Reading

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
    """What connections are made with.

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
        raise FileInvalid("the key is encrypted, and nobody is there to type a password") from None
    except (ValueError, UnsupportedAlgorithm):
        raise FileInvalid("that is no private key (PEM)") from None


def watch_pair(pair: Pair) -> Watched[Certificate]:
    """Read a certificate and its key, now and whenever they change. Blocks.

    :raises FileInvalid: if they can't be used.
    """
    return Watched([pair.certificate, pair.key], lambda: read_certificate(pair))


@implementer(IOpenSSLServerConnectionCreator)
@attrs.frozen
class Connections:
    """Makes each connection with the certificate of the moment."""

    watched: Watched[Certificate]

    def serverConnectionForTLS(self, protocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """The connection that speaks TLS for a protocol."""
        return SSL.Connection(self.watched.value.context, None)


class _Sorting(BufferingTLSTransport):
    """A connection that speaks TLS, or else plain HTTP, with a site that is for that."""

    transport: Any
    factory: "_SortingFactory"
    _begun = False
    _plain: Any = None

    def dataReceived(self, data: bytes) -> None:
        """Take what comes; the first byte tells what is spoken."""
        if not self._begun:
            self._begun = True
            if opening_fault(data) is None:
                self._become_plain()
        if self._plain is None:
            super().dataReceived(data)  # type: ignore[no-untyped-call]
        else:
            self._plain.dataReceived(data)

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        """Tell whoever has the connection."""
        if self._plain is None:
            super().connectionLost(reason)
        else:
            self._plain.connectionLost(reason)

    def _become_plain(self) -> None:
        """End what was to be spoken over TLS, and hand the connection on."""
        self.transport.unregisterProducer()
        self._lostTLSConnection = True  # or else OpenSSL would say that the handshake has failed
        super().connectionLost(Failure(ConnectionDone()))
        peer = self.transport.getPeer()
        self._plain = self.factory.plain.buildProtocol(peer)  # type: ignore[no-untyped-call]
        self._plain.makeConnection(self.transport)


class _SortingFactory(TLSMemoryBIOFactory):
    """Makes such connections."""

    protocol = _Sorting

    def __init__(self, creator: Any, site: BoundedSite) -> None:
        super().__init__(creator, False, cast(Any, site))
        self.plain = PlainSite(site)


@implementer(IStreamServerEndpoint)
@attrs.frozen
class TLSEndpoint:
    """An endpoint at which TLS is spoken; who speaks plain HTTP there is told so.

    :param endpoint: the one below, of whatever kind.
    """

    endpoint: IStreamServerEndpoint
    watched: Watched[Certificate]

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        """Listen; what arrives at the factory, a :class:`BoundedSite`, is plain."""
        site = cast(BoundedSite, protocolFactory)
        wrapper: Any = _SortingFactory(Connections(self.watched), site)
        return self.endpoint.listen(wrapper)
