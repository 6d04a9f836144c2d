"""What the kernel is asked to do for connections."""

import socket
from typing import Any

from nixery.http.untaken import LEAST

_NOT_SENT = 128 * 1024
"""Bytes of a connection that the kernel holds besides those that are on their way."""


def limit_writes(transport: Any, seconds: float) -> None:
    """Have little buffered, and the kernel end a TCP connection whose client takes nothing.

    Only the kernel sees what the client takes: a buffer that is full here says little, since it
    gets room in big steps. UNIX sockets have no such limit: proxies of this machine are at them.
    """
    below = getattr(transport, "transport", transport)  # of TLS
    below.bufferSize = LEAST
    handle = below.getHandle() if hasattr(below, "getHandle") else None
    if isinstance(handle, socket.socket) and handle.family != socket.AF_UNIX:
        # Bytes that can't leave yet are in our hands rather than the kernel's, which has a lot
        # of room for each connection.
        handle.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _NOT_SENT)
        milliseconds = max(1, round(seconds * 1000))
        handle.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
