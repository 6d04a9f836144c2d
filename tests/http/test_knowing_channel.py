"""Connections on which what is known is answered: to clients of all kinds."""

from typing import Any

import attrs
import pytest
from twisted.internet.defer import Deferred

from nixery.http.bounds import LEAST, TOO_MANY_REQUESTS
from nixery.http.channel import LAST_CALL
from tests.web.connected import VERSION, Connected, Connection
from tests.web.server import MANIFEST

PULL = VERSION.replace(b"/v2/", b"/v2/a/manifests/latest")
CLIENT = "192.168.1.1"  # of the transport


class Warmed(Connected):
    """A connection to a site that knows the answers to :data:`VERSION` and :data:`PULL`."""

    def __init__(self) -> None:
        super().__init__()
        self.known = self.site.known
        for request in (VERSION, PULL):
            self.send(request)
        self.transport.clear()
        assert self.known.given == 0

    def have_no_time(self) -> None:
        """Have this round of the reactor have no time for another request."""
        self.known.starts.spend(1.0)


def test_known_answers() -> None:
    """What was asked before is answered as it was then."""
    connected = Warmed()
    connected.send(PULL)
    first, _, body = connected.transport.value().partition(b"\r\n\r\n")
    assert first.startswith(b"HTTP/1.1 200 OK\r\n")
    assert body == MANIFEST.content
    connected.send(VERSION)
    assert connected.known.given == 2
    assert len(connected.builder.asked) == 1
    bounds = connected.site.bounds
    assert (bounds.requests.running, bounds.connections.idle, connected.timers) == (0, 1, 1)


def test_each_answer_has_its_own_id() -> None:
    """Answers that are known have different IDs."""
    connected = Warmed()
    connected.send(VERSION)
    connected.send(VERSION)
    lines = connected.transport.value().split(b"\r\n")
    assert len({line for line in lines if line.lower().startswith(b"x-request-id: ")}) == 2


def test_age() -> None:
    """After some seconds a request is answered anew, whatever is known."""
    connected = Warmed()
    connected.clock.advance(9)
    connected.send(PULL)
    assert len(connected.builder.asked) == 1
    connected.clock.advance(1)
    connected.send(PULL)
    assert len(connected.builder.asked) == 2


def test_idle_connections() -> None:
    """A connection is closed when its client has asked nothing for long, and not before."""
    connected = Warmed()
    for _ in range(3):
        connected.clock.advance(9)
        connected.send(VERSION)
    assert connected.known.given >= 2
    connected.clock.advance(119)
    assert connected.transport.connected
    connected.clock.advance(1)
    assert not connected.transport.connected
    assert connected.timers == 0


def test_a_first_request() -> None:
    """A connection whose first answer was known may rest as long as any other."""
    warmed = Warmed()
    connected = Connection(warmed.clock, warmed.site)
    connected.send(VERSION)
    assert warmed.known.given == 1
    connected.clock.advance(119)
    assert connected.transport.connected
    connected.clock.advance(1)
    assert not connected.transport.connected


def test_a_request_in_parts() -> None:
    """A request that comes in parts has the same answer, and the time for its head."""
    connected = Warmed()
    connected.send(VERSION)
    connected.send(VERSION[:9])
    connected.clock.advance(19)
    connected.send(VERSION[9:])
    assert connected.statuses == [200, 200]
    connected.send(VERSION[:9])
    connected.clock.advance(20)
    assert connected.statuses == [200, 200, 408]


def test_readers_that_are_slow() -> None:
    """Nothing more is answered until the last answer has left; that is not idle."""
    connected = Warmed()
    connected.channel.pauseProducing()  # says the transport, being full
    connected.send(VERSION + VERSION)
    connected.clock.advance(1000)
    assert connected.transport.connected
    assert connected.statuses == [200]
    connected.channel.resumeProducing()
    connected.turns(2)
    assert connected.statuses == [200, 200]


def test_an_answer_that_does_not_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that takes nothing of what is known is not idle, and not asked for more."""
    connected = Warmed()
    send = connected.channel.send

    def fill(data: bytes) -> None:
        send(data)
        connected.channel.pauseProducing()

    monkeypatch.setattr(connected.channel, "send", fill)
    connected.send(VERSION)
    assert connected.known.given == 1
    assert connected.site.bounds.connections.idle == 0
    assert connected.transport.producerState == "paused"
    connected.clock.advance(1000)
    assert (connected.transport.connected, connected.statuses) == (True, [200])
    connected.channel.resumeProducing()
    connected.send(VERSION)
    assert connected.statuses == [200, 200]
    connected.channel.resumeProducing()
    assert connected.site.bounds.connections.idle == 1


def test_what_clients_have_not_taken() -> None:
    """What a client has not taken of what is known counts as such, until it has, or has left; where
    there is no room for more, nothing is given whole that could be sent in pieces."""
    connected = Warmed()
    large = bytes(5 * LEAST)
    connected.builder.served = attrs.evolve(MANIFEST, content=large)
    asked = PULL.replace(b"/a/", b"/large/")
    connected.send(asked)
    untaken = connected.site.bounds.untaken
    for end in (connected.channel.resumeProducing, connected.leave):
        connected.channel.send = lambda data: connected.channel.pauseProducing()
        connected.send(asked)
        assert untaken.total == len(large) - LEAST
        end()
        assert untaken.total == 0
    assert connected.known.given == 2
    other = Connection(connected.clock, connected.site)
    with untaken.piece(CLIENT, connected.site.bounds.limits.client_unread):
        other.send(asked)
    assert connected.known.given == 2
    assert other.transport.value().endswith(large)


def test_turns() -> None:
    """A round of the reactor that has no time left leaves what is known to the next one."""
    connected = Warmed()
    connected.have_no_time()
    connected.send(VERSION)
    assert connected.statuses == []
    assert connected.site.bounds.requests.running == 1
    assert connected.site.bounds.connections.idle == 0
    assert connected.transport.producerState == "paused"
    connected.turns(1)
    assert (connected.statuses, connected.known.given) == ([200], 1)
    assert connected.site.bounds.requests.running == 0
    assert connected.site.bounds.connections.idle == 1
    assert connected.transport.producerState == "producing"


def test_more_than_waits_for_its_turn() -> None:
    """What comes behind a request that waits for its turn is answered behind it."""
    connected = Warmed()
    connected.have_no_time()
    connected.send(VERSION)
    connected.send(PULL[:20])
    connected.send(PULL[20:])
    connected.turns(3)
    assert connected.statuses == [200, 200]
    assert connected.transport.value().endswith(MANIFEST.content)


def test_leaving_before_the_turn() -> None:
    """A client that leaves while its request waits for its turn leaves nothing behind."""
    connected = Warmed()
    connected.have_no_time()
    connected.send(VERSION)
    connected.leave()
    connected.turns(2)
    bounds = connected.site.bounds
    assert (bounds.requests.running, bounds.connections.open, connected.timers) == (0, 0, 0)
    assert connected.known.given == 0


def test_what_holds_no_longer_at_its_turn() -> None:
    """A request that waited for its turn is answered anew if its answer does not hold then."""
    connected = Warmed()
    connected.have_no_time()
    connected.send(PULL)
    connected.builder.gate = Deferred()
    connected.turns(2)
    assert connected.statuses == []
    connected.builder.gate.callback(None)
    assert connected.statuses == [200]


def test_too_many_requests() -> None:
    """A client with as many requests as it may have is refused what is known, but not whether
    this is a registry."""
    connected = Warmed()
    bounds = connected.site.bounds
    for _ in range(bounds.limits.client_requests):
        assert bounds.requests.begin(CLIENT)
    connected.send(PULL)
    connected.send(VERSION)
    assert connected.statuses == [429, 200]
    assert bounds.refused[TOO_MANY_REQUESTS] == 1


def test_stopping() -> None:
    """When the daemon stops, what is known is the last answer on a connection."""
    connected = Warmed()
    connected.site.stopping = True
    connected.site.bounds.connections.retire()
    connected.send(VERSION)
    assert b"Connection: close" in connected.transport.value()
    assert not connected.transport.connected
    connected = Warmed()
    connected.have_no_time()
    connected.send(VERSION)
    connected.site.stopping = True
    connected.site.bounds.connections.retire()
    connected.turns(1)
    assert b"Connection: close" in connected.transport.value()
    assert not connected.transport.connected


def test_idle_connections_of_a_daemon_that_stops() -> None:
    """A connection on which something was answered is not waited for longer because of it."""
    connected = Warmed()
    connected.send(VERSION)
    connected.site.stopping = True
    connected.site.bounds.connections.retire()
    connected.clock.advance(LAST_CALL)
    assert not connected.transport.connected


def test_room_for_others() -> None:
    """Connections on which what is known was answered give room in the order in which they rest."""
    warmed = Warmed()
    first, second = (Connection(warmed.clock, warmed.site) for _ in "ab")
    for each in (second, first, warmed, second):
        each.send(VERSION)
    connections: Any = warmed.site.bounds.connections
    rested = connections._own(CLIENT).rested
    assert list(rested) == [first.channel, warmed.channel, second.channel]
    assert not connections._own(CLIENT).fresh


def test_without_anything_asked() -> None:
    """A connection on which nothing comes is closed after the time for a head."""
    connected = Connected()
    connected.clock.advance(20)
    assert not connected.transport.connected
