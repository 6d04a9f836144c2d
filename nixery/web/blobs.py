"""Sending blobs, piece by piece, no faster than the client takes them."""

import os
from collections.abc import Awaitable, Callable
from io import FileIO

from twisted.internet.interfaces import IConsumer, IReactorThreads
from twisted.internet.threads import deferToThreadPool
from twisted.web.server import Request

from nixery.http.gate import gated, untaken_of
from nixery.http.ranges import Range, Selection
from nixery.http.request import client_of
from nixery.http.untaken import LEAST
from nixery.interfaces import BlobFile
from nixery.model.digest import Digest
from nixery.model.errors import BlobUnknown, NixeryError, StorageUnavailable
from nixery.model.networks import network_of

_STREAM = 96 * 1024
"""Bytes in memory of a blob that comes from elsewhere: what is read at once, and buffers."""

OF_BLOBS = (
    b"Accept-Ranges",
    b"Content-Length",
    b"Content-Range",
    b"Content-Type",
    b"Docker-Content-Digest",
    b"ETag",
)
"""The headers that say what a blob is."""


class CutShort(Exception):
    """A blob ended before what was announced of it."""


def open_file(digest: Digest, location: BlobFile, part: Range) -> tuple[FileIO, bytes]:
    """Open a blob's file, and read a first small piece of a part of it. Blocks.

    A file object, not a descriptor: it is closed even if the client leaves just now.

    :raises BlobUnknown: if it isn't there any more, or is not what was verified.
    :raises StorageUnavailable: if it can't be read.
    """
    try:
        file = FileIO(location.path, opener=_open)
        first = os.pread(file.fileno(), min(LEAST, part.length), part.start)
        # Looked at after it was read: what was read before a change is good.
        if _has_changed(file, location):
            file.close()
            raise BlobUnknown(str(digest))
        return file, first
    except FileNotFoundError:
        raise BlobUnknown(str(digest)) from None
    except OSError as error:
        raise StorageUnavailable(error.strerror or str(error)) from error


async def send_parts(
    request: Request, wanted: Selection, send: Callable[[Range], Awaitable[None]]
) -> None:
    """Write what is wanted of a blob to a request whose headers are set.

    :param send: writes one range; what it raises ends the sending.
    """
    for part in wanted.parts:
        if part.head:
            with gated(request) as gate:
                await gate.passed()
                request.write(part.head)
        await send(part.range)
    if wanted.tail:
        request.write(wanted.tail)


async def send_file(
    reactor: IReactorThreads,
    request: Request,
    file: FileIO,
    location: BlobFile,
    part: Range,
    first: bytes,
) -> None:
    """Write a part of an open file to a request whose headers are set. Reads in threads.

    :param first: the part's first piece; empty if it is yet to be read.
    :raises CutShort: if the file is shorter than that, can't be read, or is changed meanwhile.
    """
    if len(first) == part.length:  # a config, say: no more is to be read of it
        request.write(first)
        return
    pool = reactor.getThreadPool()
    offset, end, piece = part.start, part.start + part.length, first
    del first
    try:
        with gated(request) as gate:
            while True:
                if piece:
                    request.write(piece)
                    offset += len(piece)
                del piece  # the connection has what the client has not taken
                await gate.passed()
                if offset == end:
                    return
                size = min(gate.room, end - offset)
                gate.count(size)
                piece = await deferToThreadPool(reactor, pool, _read, file, location, size, offset)
                if not piece:
                    raise CutShort("its file is shorter than it was")
    except OSError as error:
        raise CutShort(error.strerror or str(error)) from error


def _read(file: FileIO, location: BlobFile, length: int, offset: int) -> bytes:
    piece = os.pread(file.fileno(), length, offset)
    if _has_changed(file, location):
        raise CutShort("its file was changed while it was sent")
    return piece


def _has_changed(file: FileIO, location: BlobFile) -> bool:
    """Whether an open file may hold something else than when it was verified."""
    found = os.fstat(file.fileno())
    if (found.st_size, found.st_mtime_ns) != (location.size, location.modified):
        return True
    # That it has lost its name is a change too, but none of what it holds.
    return found.st_ctime_ns != location.changed and found.st_nlink > 0


def cut(request: Request) -> None:
    """Have the connection end with this request, of which the client has a part.

    Nothing else may follow on it: the client would take it for the rest.
    """
    request.channel.persistent = False


async def send_stream(
    request: Request, copy: Callable[[int, int, IConsumer], Awaitable[None]], part: Range
) -> None:
    """Have a part of a blob written to a request whose headers are set.

    :param copy: of a :class:`nixery.interfaces.Stream`.
    :raises StorageUnavailable: if there is not a single byte to be had; its headers are gone then.
    :raises TooMuchUnread: if there is no room for it; likewise.
    :raises CutShort: if it fails later.
    """
    client = network_of(client_of(request))
    try:
        with untaken_of(request).whole(client, min(part.length, _STREAM)):
            await copy(part.start, part.length, request)
    except NixeryError as error:
        if request.startedWriting:
            raise CutShort(str(error)) from error
        for name in OF_BLOBS:
            request.responseHeaders.removeHeader(name)
        raise


def _open(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW)
