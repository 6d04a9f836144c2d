"""A site whose connections are bounded, and resources that answer when they are ready."""

from collections.abc import Awaitable, Callable
from io import BytesIO

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from twisted.web.http import Request
from twisted.web.resource import IResource, Resource
from twisted.web.server import NOT_DONE_YET, Site

from nixery.http.bounds import Bounds
from nixery.http.channel import BoundedChannel
from nixery.http.request import NOBODY, RegistryRequest, RequestBody
from nixery.model.service_errors import NoRoomToWait


class BoundedSite(Site):
    """A site whose connections are bounded; it keeps nothing of what it is sent, and logs nothing.

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
        """Offer HTTP/1.1; Twisted would offer HTTP/2 if it could speak it."""
        return [b"http/1.1"]

    def body_for(self, target: bytes) -> RequestBody:
        """What takes the body of a request.

        :param target: its path and query.
        """
        return RequestBody()

    def getContentFile(self, length: int | None) -> BytesIO:
        """An empty body, whatever is sent: Twisted would make temporary files."""
        return BytesIO()

    def log(self, request: Request) -> None:
        """Log nothing."""


class AnsweringResource(Resource):
    """Answers with what a coroutine gives, if its client is still there then."""

    isLeaf = True

    def __init__(self, answer: Callable[[RegistryRequest], Awaitable[bytes | None]]) -> None:
        """
        :param answer: answers a request whose client may leave: it is cancelled then.
        """
        super().__init__()  # type: ignore[no-untyped-call]
        self._answer = answer

    def render(self, request: RegistryRequest) -> int:
        """Begin to answer."""
        self.begin(request)
        return NOT_DONE_YET

    def begin(self, request: RegistryRequest) -> None:
        """Begin to answer a request, unless its client has left."""
        if request.channel is not None:
            answering = Deferred.fromCoroutine(self._run(request))
            if not answering.called:
                request.notifyFinish().addErrback(lambda _: answering.cancel())

    async def _run(self, request: RegistryRequest) -> None:
        try:
            body = await self._answer(request)
            if request.channel is not None:
                finish(request, body)
        except CancelledError as error:
            # The error knows all frames that it went through, and some of these know the error:
            # with a crowd that leaves, that would be hundreds of thousands of objects which are
            # found by the search for cycles alone.
            error.__traceback__ = None
            if request.channel is not None:  # it is about to learn that the client has left
                request.loseConnection()
        except Exception:
            if request.channel is not None:
                request.processingFailed(Failure())


def finish(request: RegistryRequest, body: bytes | None) -> None:
    """End the answer to a request with the last of its body, if there is more of it."""
    if body:
        request.write(body)
    request.finish()


def never_ends(request: RegistryRequest) -> None:
    """Mark an answer that may go on for ever: stopping does not wait for it, and it is cut when
    there is no room for others.

    :raises NoRoomToWait: if there is none for it.
    """
    if on_reserve(request):
        raise NoRoomToWait
    if isinstance(channel := request.channel, BoundedChannel):
        channel.site.bounds.connections.never_ends(channel, request.network)


def on_reserve(request: RegistryRequest) -> bool:
    """Whether a request came on a connection of the reserve, so that it must not wait."""
    channel = request.channel
    return isinstance(channel, BoundedChannel) and channel.site.bounds.connections.is_reserved(
        channel
    )
