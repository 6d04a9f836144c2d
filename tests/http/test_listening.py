"""Where the daemon listens."""

import errno
import os
import socket
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import maybeDeferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory
from twisted.internet.threads import deferToThread

from nixery.http.bounded_site import BoundedSite
from nixery.http.bounds import Bounds
from nixery.http.listening import (
    address_of,
    listening_at,
    listening_fault,
    why_not,
    with_backlog,
)
from nixery.model.limits import HttpLimits
from tests.http.test_channel import read_all
from tests.http.test_door import Whoami
from tests.waiting import HUNG
from tests.web.connected import VERSION

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


def ask(family: socket.AddressFamily, host: str, port: int) -> bytes:
    """Ask for something, and read until the connection is closed."""
    with socket.socket(family) as connection:
        connection.settimeout(HUNG)
        connection.connect((host, port))
        connection.sendall(VERSION.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        return read_all(connection)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("endpoint", ["tcp:0", "tcp:port=0", "tcp:0:backlog=9"])
async def test_both_families(endpoint: str) -> None:
    """A port without an interface is reached by IPv4 and IPv6, and clients of IPv4 are known by
    their addresses, not by those that IPv6 has for them; the port is told as localhost's."""
    site: Any = BoundedSite(Whoami(), reactor, Bounds(HttpLimits()))
    listening = await listening_at(reactor, endpoint).endpoint.listen(site)
    host: Any = listening.getHost()
    assert address_of(host) == f"localhost:{host.port}"
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        answer = await deferToThread(ask, family, address, host.port)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert answer.endswith(b"\r\n\r\n" + address.encode("ascii"))
    await maybeDeferred(listening.stopListening)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("held", [("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6)])
async def test_taken_in_one_family(held: tuple[str, socket.AddressFamily]) -> None:
    """A port that another program has at an address of either family is found to be in use."""
    host, family = held
    with socket.create_server((host, 0), family=family) as other:
        fault = await listening_fault(reactor, f"tcp:{other.getsockname()[1]}")
    assert fault is not None
    assert "is in use by another program" in fault


@pytest.fixture
def _without_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose kernel has no IPv6."""
    made: Any = socket.socket.__new__

    def make(cls: Any, family: int = -1, *rest: Any, **options: Any) -> Any:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
        return made(cls, family, *rest, **options)

    monkeypatch.setattr(socket.socket, "__new__", make)


@pytest.mark.usefixtures("_without_ipv6")
@pytest_twisted.ensureDeferred
async def test_a_machine_without_ipv6() -> None:
    """Where the kernel has no IPv6, a port is at all addresses of IPv4."""
    site: Any = BoundedSite(Whoami(), reactor, Bounds(HttpLimits()))
    listening = await listening_at(reactor, "tcp:0").endpoint.listen(site)
    host = listening.getHost()
    assert isinstance(host, IPv4Address)
    answer = await deferToThread(ask, socket.AF_INET, "127.0.0.1", host.port)
    assert answer.endswith(b"\r\n\r\n127.0.0.1")
    await maybeDeferred(listening.stopListening)
    assert await listening_fault(reactor, "tcp:0") is None


class _Nothing(Factory):
    """Serves nothing."""
