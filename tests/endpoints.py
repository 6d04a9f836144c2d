"""An endpoint without a network."""

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IListeningPort, IStreamServerEndpoint
from twisted.internet.protocol import Factory
from zope.interface import implementer


@implementer(IListeningPort)
class FakePort:
    """A port that nobody can reach."""

    open = True

    def startListening(self) -> None:
        self.open = True

    def stopListening(self) -> Deferred[None]:
        self.open = False
        return succeed(None)

    def getHost(self) -> IPv4Address:
        return IPv4Address("TCP", "127.0.0.1", 4321)


@implementer(IStreamServerEndpoint)
class FakeEndpoint:
    """An endpoint that notes what it is to serve.

    :ivar result: what listening comes to.
    """

    def __init__(self) -> None:
        self.port = FakePort()
        self.site: Factory | None = None
        self.result: Deferred[IListeningPort] = succeed(self.port)

    def listen(self, factory: Factory) -> Deferred[IListeningPort]:  # type: ignore[override]
        self.site = factory
        return self.result
