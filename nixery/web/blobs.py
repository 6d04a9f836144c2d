"""Blobs: answering with one, or parts of it, no faster than the client takes it."""

import contextlib
import os
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from io import FileIO
from typing import Any

from twisted.internet.interfaces import IConsumer, IReactorTime
from twisted.logger import Logger

from nixery.builds.keep_alive import keep_alive
from nixery.http.answers import redirect
from nixery.http.bounds import LEAST
from nixery.http.gate import gated, untaken_of
from nixery.http.known_answers import LARGEST
from nixery.http.ranges import Range, Selection, parse_ranges, select, whole
from nixery.http.request import RegistryRequest
from nixery.http.sendfile import send_file
from nixery.interfaces import BlobFile, IBlobs, Redirect, Stream, Value
from nixery.model.digest import Digest
from nixery.model.errors import NixeryError
from nixery.model.request_errors import BlobUnknown
from nixery.model.service_errors import StorageUnavailable
from nixery.reactor import IReactor, in_thread
from nixery.web.auth import Auth

_log = Logger()

_REMEMBERED = 1000
_STREAM = 96 * 1024
"""Bytes in memory of a blob that comes from elsewhere: what is read at once, and buffers."""

_NOTHING = whole(0)
_OF_BLOBS = (
    b"Accept-Ranges",
    b"Content-Length",
    b"Content-Range",
    b"Content-Type",
    b"Docker-Content-Digest",
    b"ETag",
)
"""The headers that describe a blob."""


class CutShort(Exception):
    """A blob ended before what was announced of it."""


class ImagesInUse:
    """The image that clients load under a name is the one whose manifest was served for it last.

    A blob that they ask for then means that all of its image is in use.
    """

    def __init__(self, clock: IReactorTime, storage: IBlobs, remembered: int = _REMEMBERED) -> None:
        """
        :param remembered: names, those that were asked for last.
        """
        self._clock = clock
        self._storage = storage
        self._remembered = remembered
        self._served: OrderedDict[str, tuple[Digest, ...]] = OrderedDict()

    def served(self, name: str, image: tuple[Digest, ...]) -> None:
        """A manifest is sent to somebody who will ask for its blobs.

        One of an index that was served for the name last is a part of that: others may be loading
        the image of another platform.

        :param image: its digest, and those of all that it leads to.
        """
        if image[0] not in self.image(name):
            self._served[name] = image
        self._served.move_to_end(name)
        if len(self._served) > self._remembered:
            self._served.popitem(last=False)

    def served_again(self, name: str, image: tuple[Digest, ...], again: Callable[[], bool]) -> bool:
        """Whether a manifest still holds; if so, it is sent again: see :meth:`served`."""
        if not again():
            return False
        self.served(name, image)
        return True

    def image(self, name: str) -> tuple[Digest, ...]:
        """The image that was served for a name last: see :meth:`served`."""
        return self._served.get(name, ())

    def loading(self, name: str, digest: Digest) -> contextlib.AbstractContextManager[object]:
        """A context in which a blob is sent: the others of its image are of use meanwhile,
        however long that takes, since the client has them still to come."""
        image = self.image(name)
        if digest not in image:
            return contextlib.nullcontext()
        self._served.move_to_end(name)
        return keep_alive(self._clock, self._storage, image)


class BlobAnswers:
    """Answers with blobs."""

    def __init__(
        self, reactor: IReactor, storage: IBlobs, auth: Auth, accel: str | None = None
    ) -> None:
        """
        :param auth: says for how long an answer may be kept.
        :param accel: the path below which nginx, as a proxy that is trusted, has the blobs that are
            files; none if it is to be sent them.
        """
        self._reactor = reactor
        self._storage = storage
        self._auth = auth
        self._accel = accel

    async def answer(
        self, request: RegistryRequest, digest: Digest, again: Callable[[], bool]
    ) -> bytes | None:
        """Answer with a blob, or with the parts of it that are asked for.

        :param again: whether the same request would bring about the same, apart from the blob.
        :raises BlobUnknown: if there is none.
        """
        changes = self._storage.changes()
        location = await self._storage.locate(digest)
        keep = partial(self._keep, request, changes, again)
        match location:
            case Redirect(url=url, size=size):
                if request.method == b"HEAD":
                    # A URL that is signed for GET is good for nothing else.
                    _blob_headers(request, digest, whole(size))
                    return b""
                return redirect(request, url.encode("ascii"))
            case Stream(size=size, copy=copy):
                wanted = _wanted(request, digest, size)
                _blob_headers(request, digest, wanted)
                if request.method != b"HEAD":
                    send = partial(_send_stream, request, copy)
                    await self._or_cut(request, digest, _send_parts(request, wanted, send))
                return None
            case Value(content=content):
                wanted = _wanted(request, digest, len(content))
                keep(wanted)
                _blob_headers(request, digest, wanted)
                return wanted.body(content)
            case BlobFile(path=path, size=size) if self._hands_over(request):
                # Ranges are for nginx to choose; so is the length.
                keep(_NOTHING)
                _blob_headers(request, digest, whole(size))
                request.setHeader(b"Content-Length", b"0")
                place = f"{self._accel}{os.path.basename(path)}"
                request.setHeader(b"X-Accel-Redirect", place.encode("ascii"))
                return b""
            case BlobFile():
                wanted = _wanted(request, digest, location.size)
                keep(wanted)
                await self._send(request, digest, location, wanted)
                return None

    def _keep(
        self,
        request: RegistryRequest,
        changes: int | None,
        again: Callable[[], bool],
        wanted: Selection,
    ) -> None:
        """Have the answer to a request kept as long as blobs are what they are, if it is small.

        :param changes: of the storage, before it was asked for the blob.
        """
        # What stands between several parts is another word each time.
        if changes is not None and len(wanted.parts) == 1 and wanted.length <= LARGEST:
            self._auth.keep(request, lambda: self._storage.changes() == changes and again())

    def _hands_over(self, request: RegistryRequest) -> bool:
        """Whether a proxy is told where a file is, rather than sent it."""
        return self._accel is not None and request.is_of_proxy and request.method == b"GET"

    async def _send(
        self, request: RegistryRequest, digest: Digest, location: BlobFile, wanted: Selection
    ) -> None:
        begin = wanted.parts[0].range
        # What is kept is read as a whole, if there is room for it.
        room = untaken_of(request).room(request.network) if request.again is not None else LEAST
        try:
            file, first = await in_thread(self._reactor, _open_file, digest, location, begin, room)
        except BlobUnknown:
            # It may just have been replaced.
            again = await self._storage.locate(digest)
            if not isinstance(again, BlobFile):
                raise
            location = again
            file, first = await in_thread(self._reactor, _open_file, digest, location, begin, room)
        with file:
            _blob_headers(request, digest, wanted)
            if request.method == b"HEAD":
                return
            read = [first]
            del first  # it would be kept as long as a slow client reads

            def send(part: Range) -> Coroutine[Any, Any, None]:
                first = read.pop() if read else b""
                return _send_file(self._reactor, request, file, location, part, first)

            await self._or_cut(request, digest, _send_parts(request, wanted, send))

    async def _or_cut(
        self, request: RegistryRequest, digest: Digest, sending: Coroutine[Any, Any, None]
    ) -> None:
        """Send a blob; if it ends too early, have the client see that it did."""
        try:
            await sending
        except CutShort as error:
            _log.error("while sending {digest}: {error}", digest=str(digest), error=error)
            # Nothing may follow on the connection: the client would take it for the rest.
            request.channel.persistent = False


def _wanted(request: RegistryRequest, digest: Digest, size: int) -> Selection:
    """The parts of a blob that are asked for."""
    if request.wants_range_of(str(digest)):
        ranges = parse_ranges(request.header(b"range"), size)
        if ranges:
            return select(ranges, size, secrets.token_hex(16))
    return whole(size)


def _blob_headers(request: RegistryRequest, digest: Digest, wanted: Selection) -> None:
    """Set the headers of an answer that is a blob, or of a part of it."""
    text = str(digest)
    request.setResponseCode(wanted.status)
    if wanted.content_range is not None:
        request.setHeader(b"Content-Range", wanted.content_range.encode("ascii"))
    request.setHeader(b"Docker-Content-Digest", text.encode("ascii"))
    request.setHeader(b"ETag", f'"{text}"'.encode("ascii"))
    request.setHeader(b"Content-Type", wanted.media_type.encode("ascii"))
    request.setHeader(b"Content-Length", b"%d" % wanted.length)
    request.setHeader(b"Accept-Ranges", b"bytes")


def _open_file(digest: Digest, location: BlobFile, part: Range, most: int) -> tuple[FileIO, bytes]:
    """Open a blob's file, and read a first piece of a part of it. Blocks.

    A file object, not a descriptor: it is closed even if the client leaves just now.

    :param most: bytes of the piece.
    :raises BlobUnknown: if it is gone, or is not what was verified.
    :raises StorageUnavailable: if it can't be read.
    """
    try:
        file = FileIO(location.path, opener=_open)
        first = os.pread(file.fileno(), min(most, part.length), part.start)
        # Looked at after it was read: what was read before a change is good.
        if _has_changed(file, location):
            file.close()
            raise BlobUnknown(str(digest))
        return file, first
    except FileNotFoundError:
        raise BlobUnknown(str(digest)) from None
    except OSError as error:
        raise StorageUnavailable(error.strerror or str(error)) from error


async def _send_parts(
    request: RegistryRequest, wanted: Selection, send: Callable[[Range], Awaitable[None]]
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


async def _send_file(
    reactor: IReactor,
    request: RegistryRequest,
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
        with gated(request) as gate:
            gate.write(first)
            del first
            await gate.passed()
        return
    offset, end, piece = part.start, part.end, first
    del first
    by_kernel = True
    check = partial(_check, file, location)
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
                if by_kernel and end - offset > LEAST:
                    begin = offset
                    offset = await send_file(reactor, request, file, begin, end - LEAST, check)
                    by_kernel = offset > begin
                size = min(gate.room, end - offset)
                gate.count(size)
                piece = await in_thread(reactor, _read, file, location, size, offset)
                if not piece:
                    raise CutShort("its file is shorter than it was")
    except OSError as error:
        raise CutShort(error.strerror or str(error)) from error


def _read(file: FileIO, location: BlobFile, length: int, offset: int) -> bytes:
    piece = os.pread(file.fileno(), length, offset)
    _check(file, location)
    return piece


def _check(file: FileIO, location: BlobFile) -> None:
    """Make sure that an open file still holds what was verified.

    :raises CutShort: if it may hold something else.
    """
    if _has_changed(file, location):
        raise CutShort("its file was changed while it was sent")


def _has_changed(file: FileIO, location: BlobFile) -> bool:
    """Whether an open file may hold something else than when it was verified."""
    found = os.fstat(file.fileno())
    if (found.st_size, found.st_mtime_ns) != (location.size, location.modified):
        return True
    # That it has lost its name is a change too, but none of what it holds.
    return found.st_ctime_ns != location.changed and found.st_nlink > 0


async def _send_stream(
    request: RegistryRequest, copy: Callable[[int, int, IConsumer], Awaitable[None]], part: Range
) -> None:
    """Have a part of a blob written to a request whose headers are set.

    :param copy: of a :class:`nixery.interfaces.Stream`.
    :raises StorageUnavailable: if there is not a single byte to be had; its headers are gone then.
    :raises TooMuchUnread: if there is no room for it; likewise.
    :raises CutShort: if it fails later.
    """
    try:
        with untaken_of(request).whole(request.network, min(part.length, _STREAM)):
            await copy(part.start, part.length, request)
    except NixeryError as error:
        if request.startedWriting:
            raise CutShort(str(error)) from error
        for name in _OF_BLOBS:
            request.responseHeaders.removeHeader(name)
        raise


def _open(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW)
