"""Answers that are still to be finished when the daemon stops."""

from twisted.internet.defer import Deferred
from twisted.web.server import Request


class InFlight:
    """Requests that are being answered."""

    def __init__(self) -> None:
        self._requests: set[Request] = set()
        self._waiting: list[Deferred[None]] = []

    def __len__(self) -> int:
        return len(self._requests)

    def begin(self, request: Request) -> None:
        """A request is to be answered; it counts until it is, or the client has left."""
        self._requests.add(request)
        request.notifyFinish().addBoth(lambda _: self._end(request))

    def none(self) -> Deferred[None]:
        """Fires as soon as no request is being answered."""
        waiting: Deferred[None] = Deferred(lambda _: self._waiting.remove(waiting))
        self._waiting.append(waiting)
        self._look()
        return waiting

    def _end(self, request: Request) -> None:
        self._requests.discard(request)
        self._look()

    def _look(self) -> None:
        if not self._requests:
            waiting, self._waiting = self._waiting, []
            for each in waiting:
                each.callback(None)
