"""A site whose connections are bounded, and which keeps nothing of what it is sent."""

from io import BytesIO

from twisted.internet.interfaces import IReactorTime
from twisted.web.http import Request as BaseRequest
from twisted.web.resource import IResource
from twisted.web.server import Site

from nixery.http.bounds import Bounds
from nixery.http.channel import BoundedChannel
from nixery.http.request import NOBODY, RegistryRequest


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

    def acceptableProtocols(self) -> list[bytes]:
        """Offer what the channel speaks; Twisted would offer HTTP/2 if it could speak it."""
        return [b"http/1.1"]

    def getContentFile(self, length: int | None) -> BytesIO:
        """Where a request's body is kept: nowhere. Twisted would make temporary files."""
        return BytesIO()

    def log(self, request: BaseRequest) -> None:
        """Say nothing."""
