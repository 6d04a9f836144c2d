"""Listening at endpoint strings, and explaining why one can't be listened on."""

import errno
import os
import re
import socket
from typing import Any, cast

import attrs
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import (
    IAddress,
    IListeningPort,
    IProtocolFactory,
    IReactorSocket,
    IStreamServerEndpoint,
)
from twisted.internet.protocol import Factory
from zope.interface import implementer

from nixery.access.watched import Watched
from nixery.http.door import DoorEndpoint
from nixery.http.tls import Certificate, Pair, TLSEndpoint, split_endpoint, watch_pair

BACKLOG = 4096
"""Connections that may wait to be taken; the kernel's own limit may be lower."""
_EVERYWHERE = re.compile(r"0\.0\.0\.0|127\..*|::|::1|")
_ANY_INTERFACE = re.compile(r"tcp:(?:port=)?([0-9]{1,5}):backlog=([0-9]{1,9})")


@attrs.frozen
class Listening:
    """An endpoint to serve at.

    :param certificate: for TLS, if that is spoken there.
    """

    endpoint: IStreamServerEndpoint
    certificate: Watched[Certificate] | None = None


def listening_at(reactor: Any, text: str, pair: Pair | None = None) -> Listening:
    """The endpoint of an endpoint string.

    :param pair: certificate and key for TLS; none for those that the string names, if any.
    :raises Exception: if it is none; every kind of endpoint has its own way of refusing.
    """
    rest, own = split_endpoint(text)
    endpoint = _endpoint(reactor, rest)
    pair = pair or own
    certificate = None if pair is None else watch_pair(pair)
    if certificate is not None:
        endpoint = TLSEndpoint(endpoint, certificate)
    door = DoorEndpoint(reactor, endpoint, is_tls=certificate is not None)
    return Listening(door, certificate)


@implementer(IStreamServerEndpoint)
@attrs.frozen
class DualStackEndpoint:
    """A TCP port at all addresses of the machine: one socket for IPv6 and IPv4."""

    reactor: IReactorSocket
    port: int
    backlog: int

    def listen(self, protocolFactory: IProtocolFactory) -> "Deferred[IListeningPort]":
        """Listen for connections to a factory."""
        return maybeDeferred(self._listen, protocolFactory)

    def _listen(self, factory: IProtocolFactory) -> IListeningPort:
        family = socket.AF_INET6
        try:
            # Whatever net.ipv6.bindv6only says; Twisted's own endpoints heed it.
            opened = socket.create_server(
                ("", self.port), family=family, backlog=self.backlog, dualstack_ipv6=True
            )
        except OSError as error:
            raise CannotListenError("", self.port, error) from error
        with opened:  # the reactor has a descriptor of its own
            opened.setblocking(False)
            return self.reactor.adoptStreamPort(opened.fileno(), family, cast(Any, factory))


def _endpoint(reactor: Any, text: str) -> IStreamServerEndpoint:
    """The endpoint of a string without TLS: where no interface is named, at all addresses of IPv6
    too, if this machine has it."""
    text = with_backlog(text)
    everywhere = _ANY_INTERFACE.fullmatch(text)
    if everywhere is not None and socket.has_dualstack_ipv6():
        return DualStackEndpoint(reactor, int(everywhere[1]), int(everywhere[2]))
    endpoint: IStreamServerEndpoint = serverFromString(reactor, text)
    return endpoint


def with_backlog(endpoint: str) -> str:
    """An endpoint string with room for newcomers that come all at once.

    Twisted's own is for 50: the kernel drops what comes beyond, and clients try again after a
    second.
    """
    if endpoint.partition(":")[0] not in ("tcp", "tcp6", "unix") or ":backlog=" in endpoint:
        return endpoint
    return f"{endpoint}:backlog={BACKLOG}"


async def listening_fault(reactor: Any, text: str) -> str | None:
    """A sentence if an endpoint can't be listened on at the moment; it is tried."""
    if text.startswith("systemd:"):  # it is held already
        return None
    try:
        rest, _ = split_endpoint(text)
        port = await _endpoint(reactor, rest).listen(Factory())
        await maybeDeferred(port.stopListening)
    except Exception as error:
        return why_not(error)
    return None


def why_not(error: BaseException) -> str:
    """Why the daemon can't run, with what to do about it where it can't listen."""
    if not isinstance(error, CannotListenError) or not isinstance(error.socketError, OSError):
        return str(error) or type(error).__name__
    place = f"port {error.port}" if isinstance(error.port, int) else str(error.port)
    match error.socketError.errno:
        case errno.EADDRINUSE:
            return (
                f"{place} is in use by another program, or another Nixery: end that one, or choose "
                "another port by PORT or NIXERY_LISTEN"
            )
        case errno.EACCES | errno.EPERM:
            return (
                f"user {os.geteuid()} may not listen at {place}: choose a port above 1023 by PORT "
                "or NIXERY_LISTEN, or have systemd hold the port (nixery.socket)"
            )
        case errno.EADDRNOTAVAIL:
            return (
                f"this machine has no address {error.interface}: NIXERY_LISTEN names one that it "
                "has, or none for all"
            )
    return str(error)


def address_of(host: IAddress) -> str:
    """The name by which clients on this machine reach an address that is listened on."""
    port = getattr(host, "port", None)
    if port is None:
        name = getattr(host, "name", None)
        return "HOST" if name is None else os.fsdecode(name)
    interface = str(getattr(host, "host", ""))
    if _EVERYWHERE.fullmatch(interface):
        return f"localhost:{port}"
    return f"[{interface}]:{port}" if ":" in interface else f"{interface}:{port}"
