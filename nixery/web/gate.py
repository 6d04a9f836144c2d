"""Writing no faster than a client takes it."""

from collections.abc import Iterator
from contextlib import contextmanager

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.web.server import Request
from zope.interface import implementer


@implementer(IPushProducer)
class Gate:
    """Whether the client's connection takes more at the moment."""

    def __init__(self) -> None:
        self._opened: Deferred[None] | None = None

    @property
    def is_open(self) -> bool:
        """Whether it does."""
        return self._opened is None

    def pauseProducing(self) -> None:
        if self._opened is None:
            self._opened = Deferred()

    def resumeProducing(self) -> None:
        opened, self._opened = self._opened, None
        if opened is not None and not opened.called:
            opened.callback(None)

    def stopProducing(self) -> None:
        self.resumeProducing()

    async def passed(self) -> None:
        """Wait until it does."""
        if self._opened is not None:
            await self._opened


@contextmanager
def gated(request: Request) -> Iterator[Gate]:
    """The gate of a request's connection, for the length of a block."""
    gate = Gate()
    request.registerProducer(gate, True)
    try:
        yield gate
    finally:
        request.unregisterProducer()
