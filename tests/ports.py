"""Ports for programs that must be told one."""

import random
import socket
from contextlib import suppress
from pathlib import Path

_DRAWN = random.SystemRandom()


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens at, drawn from those below the ones that clients are
    given: nobody takes it by chance before, or while, a program that is told it listens there."""
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = _DRAWN.randrange(lowest // 2, lowest)
        with suppress(OSError), socket.socket() as tried:
            tried.bind(("127.0.0.1", port))
            return port
