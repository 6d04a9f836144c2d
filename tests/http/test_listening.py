"""Where the daemon listens."""

import errno
import os
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory

from nixery.http.listening import address_of, listening_fault, why_not, with_backlog

reactor: Any = _reactor


@pytest.mark.parametrize(
    ("endpoint", "becomes"),
    [
        ("tcp:8080", "tcp:8080:backlog=4096"),
        (r"tcp6:80:interface=\:\:1", r"tcp6:80:interface=\:\:1:backlog=4096"),
        ("unix:/run/nixery", "unix:/run/nixery:backlog=4096"),
        ("tcp:8080:backlog=7", "tcp:8080:backlog=7"),
        ("systemd:domain=INET:index=0", "systemd:domain=INET:index=0"),
    ],
)
def test_backlog(endpoint: str, becomes: str) -> None:
    """Many may connect at once, unless the operator has said how many; the string stays valid."""
    assert with_backlog(endpoint) == becomes
    if not endpoint.startswith("systemd"):
        serverFromString(reactor, becomes)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        (IPv4Address("TCP", "0.0.0.0", 80), "localhost:80"),
        (IPv4Address("TCP", "127.0.0.2", 80), "localhost:80"),
        (IPv4Address("TCP", "10.1.2.3", 80), "10.1.2.3:80"),
        (IPv6Address("TCP", "::", 80), "localhost:80"),
        (IPv6Address("TCP", "fd00::1", 80), "[fd00::1]:80"),
        (UNIXAddress(b"/run/nixery"), "/run/nixery"),
        (UNIXAddress(None), "HOST"),
    ],
)
def test_what_an_address_is_called(address: IAddress, said: str) -> None:
    """An address is named as it can be reached from this machine."""
    assert address_of(address) == said


@pytest.mark.parametrize(
    ("number", "word"),
    [
        (errno.EADDRINUSE, "in use"),
        (errno.EACCES, "port above 1023"),
        (errno.EADDRNOTAVAIL, "no address 10.0.0.1"),
        (errno.ENOBUFS, "No buffer space"),
    ],
)
def test_why_it_cannot_be_listened_on(number: int, word: str) -> None:
    """The reason is said with what to do about it, or at least with the system's words."""
    error = CannotListenError("10.0.0.1", 80, OSError(number, os.strerror(number)))
    assert word in why_not(error)


def test_other_errors() -> None:
    """Other errors have their own words, and the name of their kind if they have none."""
    assert why_not(ValueError("no")) == "no"
    assert why_not(ValueError()) == "ValueError"


@pytest_twisted.ensureDeferred
async def test_trying() -> None:
    """An endpoint that can be listened on is free afterwards; one that is in use is found to be.
    One that systemd holds is not touched."""
    endpoint = "tcp:0:interface=127.0.0.1"
    assert await listening_fault(reactor, endpoint) is None
    port = await serverFromString(reactor, endpoint).listen(_Nothing())
    taken = f"tcp:{port.getHost().port}:interface=127.0.0.1"
    fault = await listening_fault(reactor, taken)
    assert fault is not None
    assert "in use" in fault
    await port.stopListening()
    assert await listening_fault(reactor, taken) is None
    assert await listening_fault(reactor, "systemd:domain=INET:index=9") is None


class _Nothing(Factory):
    """Serves nothing."""
