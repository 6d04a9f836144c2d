"""A connection to a site, at a time that the test makes."""

from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from nixery.model.limits import HttpLimits
from nixery.storage.memory import MemoryStorage
from nixery.web.pages.api import PagesApi
from nixery.web.site import QuietSite, make_site
from tests.web.server import FakeBuilder
from tests.web.test_bad_input import statuses

HELD = b"GET /v2/held/manifests/latest HTTP/1.1\r\nHost: x\r\n\r\n"
VERSION = b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n"
LIMITS = HttpLimits(header_seconds=20, idle_seconds=120)


class Transport(StringTransport):
    """A transport that tells its protocol when it closes."""

    def loseConnection(self) -> None:
        self._end()

    def abortConnection(self) -> None:
        self._end()

    def loseWriteConnection(self) -> None:
        self.half_closed = True

    def _end(self) -> None:
        if self.connected:
            self.connected = False
            self.channel.connectionLost(Failure(ConnectionDone()))

    channel: Any
    connected = True
    half_closed = False


class Connection:
    """A connection to a site, at a time that the test makes."""

    def __init__(self, clock: Any, site: QuietSite) -> None:
        self.clock, self.site = clock, site
        self.channel: Any = site.buildProtocol(None)
        self.transport = Transport()
        self.transport.channel = self.channel
        self.channel.makeConnection(self.transport)

    def send(self, data: bytes) -> None:
        self.channel.dataReceived(data)

    def leave(self) -> None:
        """Have the client leave, if it is there."""
        self.transport.abortConnection()

    def turns(self, number: int) -> None:
        """Let that many turns of the reactor pass, in no time.

        A clock would also make the calls that come up meanwhile, which a reactor does not.
        """
        for _ in range(number):
            for call in [c for c in self.clock.calls if c.getTime() <= self.clock.seconds()]:
                self.clock.calls.remove(call)
                call.called = 1
                call.func(*call.args, **call.kw)

    @property
    def statuses(self) -> list[int]:
        return statuses(self.transport.value())

    @property
    def timers(self) -> int:
        return len(self.clock.getDelayedCalls())


class Connected(Connection):
    """A connection of a site of its own."""

    def __init__(self) -> None:
        clock: Any = Clock()
        self.builder = FakeBuilder()
        pages = PagesApi()
        site = make_site(clock, self.builder, MemoryStorage(), 25, pages, limits=LIMITS)
        super().__init__(clock, site)
