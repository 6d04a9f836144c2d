"""What the kernel is asked to do for connections."""

import socket
from typing import Any


def limit_writes(transport: Any, seconds: float) -> None:
    """Have the kernel end a TCP connection whose client takes nothing of what is sent.

    Only the kernel sees what the client takes: a buffer that is full here says little, since it
    gets room in big steps. UNIX sockets have no such limit: proxies of this machine are at them.
    """
    below = getattr(transport, "transport", transport)  # of TLS
    handle = below.getHandle() if hasattr(below, "getHandle") else None
    if isinstance(handle, socket.socket) and handle.family != socket.AF_UNIX:
        milliseconds = max(1, round(seconds * 1000))
        handle.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
