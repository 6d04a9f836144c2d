"""A site whose connections are bounded, and which keeps nothing of what it is sent."""

from io import BytesIO
from typing import Any

from twisted.internet.interfaces import IAddress, IReactorTime, ISSLTransport
from twisted.internet.protocol import Protocol
from twisted.web.http import Request as BaseRequest
from twisted.web.resource import IResource
from twisted.web.server import Site

from nixery.web.bounds import NO_ROOM, Bounds
from nixery.web.channel import BoundedChannel, bounded_client, no_room
from nixery.web.request import NOBODY, RegistryRequest, new_id

_ACCEPTED = 50
"""Connections of a port that are taken in a round of the reactor."""


class _TurnedAway(Protocol):
    """A connection that there is no room for."""

    transport: Any

    def connectionMade(self) -> None:
        """Say so, and close it."""
        if not ISSLTransport.providedBy(self.transport):
            self.transport.write(no_room(NO_ROOM).to_bytes(new_id()))
        self.transport.loseConnection()


class BoundedSite(Site):
    """A site without an access log.

    :ivar bounds: what clients may have of the server.
    :ivar trusted: the proxies that are believed.
    :ivar stopping: whether connections are kept no longer than for one answer.
    """

    protocol = BoundedChannel  # type: ignore[assignment]
    trusted = NOBODY
    stopping = False

    def __init__(self, root: IResource, reactor: IReactorTime, bounds: Bounds) -> None:
        super().__init__(  # type: ignore[no-untyped-call]
            root,
            requestFactory=RegistryRequest,
            parsePOSTFormSubmission=False,
            timeout=None,  # the channel has its own
            reactor=reactor,
        )
        self.bounds = bounds
        self._clock = reactor
        self._ports: list[Any] = []
        self._round = False

    def listens(self, port: Any) -> None:
        """Connections of this site come at a port.

        As long as some wait, Twisted takes more of them in each round of the reactor, without
        bound: nothing else is done for seconds when thousands come.
        """
        self._ports.append(port)
        self._next_round()

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """What speaks on a new connection."""
        if self._ports and not self._round:
            self._round = True
            self._clock.callLater(0, self._next_round)
        client = bounded_client(addr, self.trusted) if addr is not None else None
        if self.bounds.connections.refuses(client):
            return _TurnedAway()
        return super().buildProtocol(addr)  # type: ignore[no-untyped-call]

    def _next_round(self) -> None:
        self._round = False
        for port in self._ports:
            port.numberAccepts = _ACCEPTED

    def acceptableProtocols(self) -> list[bytes]:
        """Offer what the channel speaks; Twisted would offer HTTP/2 if it could speak it."""
        return [b"http/1.1"]

    def getContentFile(self, length: int | None) -> BytesIO:
        """Where a request's body is kept: nowhere. Twisted would make temporary files."""
        return BytesIO()

    def log(self, request: BaseRequest) -> None:
        """Say nothing."""
