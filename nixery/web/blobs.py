"""Sending blobs, piece by piece, no faster than the client takes them."""

import os
from collections.abc import Awaitable, Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer, IPushProducer, IReactorThreads
from twisted.internet.threads import deferToThreadPool
from twisted.web.http_headers import Headers
from twisted.web.server import Request
from zope.interface import implementer

from nixery.model.errors import NixeryError
from nixery.web.ranges import Range

PIECE = 1024 * 1024
"""Bytes that are read at once; no more than two pieces are in memory for a client."""


class CutShort(Exception):
    """A blob ended before what was announced of it."""


@implementer(IPushProducer)
class _Gate:
    """Whether the client's connection takes more at the moment."""

    def __init__(self) -> None:
        self._opened: Deferred[None] | None = None

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
        if self._opened is not None:
            await self._opened


async def send_file(
    reactor: IReactorThreads, request: Request, descriptor: int, part: Range
) -> None:
    """Write a part of an open file to a request whose headers are set. Reads in threads.

    :raises CutShort: if the file is shorter than that.
    """
    gate = _Gate()
    request.registerProducer(gate, True)
    pool = reactor.getThreadPool()
    offset, end = part.start, part.start + part.length
    try:
        while offset < end:
            await gate.passed()
            piece = await deferToThreadPool(
                reactor, pool, os.pread, descriptor, min(PIECE, end - offset), offset
            )
            if not piece:
                raise CutShort()
            offset += len(piece)
            request.write(piece)
    finally:
        request.unregisterProducer()


async def send_stream(
    request: Request, part: Range, copy: Callable[[int, int, IConsumer], Awaitable[None]]
) -> None:
    """Have a part of a blob written to a request whose headers are set.

    :param copy: of a :class:`nixery.interfaces.Stream`.
    :raises StorageUnavailable: if there is not a single byte to be had; no headers are left then.
    :raises CutShort: if it fails later.
    """
    try:
        await copy(part.start, part.length, request)
    except NixeryError as error:
        if request.startedWriting:
            raise CutShort() from error
        request.responseHeaders = Headers()
        raise
