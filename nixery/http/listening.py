"""Listening at endpoint strings, and explaining why one can't be listened on."""

import errno
import os
import re
from typing import Any

import attrs
from twisted.internet.defer import maybeDeferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress, IListeningPort, IStreamServerEndpoint
from twisted.internet.protocol import Factory

from nixery.access.watched import Watched
from nixery.http.door import DoorEndpoint
from nixery.http.tls import Certificate, Pair, TLSEndpoint, split_endpoint, watch_pair

BACKLOG = 4096
"""Connections that may wait to be taken; the kernel's own limit may be lower."""
_EVERYWHERE = re.compile(r"0\.0\.0\.0|127\..*|::|::1|")


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
    endpoint: IStreamServerEndpoint = serverFromString(reactor, with_backlog(rest))
    pair = pair or own
    certificate = None if pair is None else watch_pair(pair)
    if certificate is not None:
        endpoint = TLSEndpoint(endpoint, certificate)
    door = DoorEndpoint(reactor, endpoint, is_tls=certificate is not None)
    return Listening(door, certificate)


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
        port: IListeningPort = await serverFromString(reactor, rest).listen(Factory())
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
