"""A port's connections, and those that there is no room for."""

from types import SimpleNamespace
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.interfaces import ISSLTransport
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.web.resource import Resource
from zope.interface import directlyProvides

from nixery.model.limits import HttpLimits
from nixery.web.bounded import BoundedSite
from nixery.web.bounds import Bounds
from tests.web.test_bounds import Fake


def site(clock: Clock, connections: int) -> BoundedSite:
    return BoundedSite(Resource(), clock, Bounds(HttpLimits(connections=connections)))


def at(host: str) -> IPv4Address:
    return IPv4Address("TCP", host, 50000)


def test_few_connections_in_a_round() -> None:
    """However many wait at a port, no more are taken in a round of the reactor than in the first,
    and a site to which nobody comes does nothing."""
    clock: Any = Clock()
    ours = site(clock, 10)
    port = SimpleNamespace(numberAccepts=1000)
    ours.listens(port)
    few = port.numberAccepts
    assert few < 1000
    assert not clock.getDelayedCalls()
    for _ in range(3):
        ours.buildProtocol(at("192.0.2.1"))
        ours.buildProtocol(at("192.0.2.1"))
        port.numberAccepts += 20  # as Twisted does
        assert len(clock.getDelayedCalls()) == 1
        clock.advance(0)
        assert port.numberAccepts == few


def test_turned_away() -> None:
    """A crowd that there is no room for is told so in plain HTTP, and over TLS is closed."""
    ours = site(Clock(), 10)
    for number in range(10):
        owner = "192.0.2.1" if number else "192.0.2.2"
        assert ours.bounds.connections.admit(Fake(), owner) is None
    for secure in (False, True):
        transport = StringTransport()
        if secure:
            directlyProvides(transport, ISSLTransport)
        ours.buildProtocol(at("192.0.2.1")).makeConnection(transport)
        assert transport.disconnecting
        assert transport.value().startswith(b"HTTP/1.1 503 ") is not secure
        assert (b"\r\nRetry-After: " in transport.value()) is not secure
    assert ours.bounds.connections.open == 10
