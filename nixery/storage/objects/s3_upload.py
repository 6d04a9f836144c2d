"""Multipart uploads to S3.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html
"""

import base64
import contextlib
import hashlib
from collections.abc import Awaitable, Callable, Mapping
from xml.sax.saxutils import escape

import attrs
import google_crc32c
from zope.interface import implementer

from nixery.model.service_errors import StorageFull
from nixery.reactor import IReactor, in_thread
from nixery.storage.objects.http_client import HttpAnswer
from nixery.storage.objects.object_store import (
    IObjectUpload,
    PassingFault,
    Refused,
    StoredObject,
)
from nixery.storage.objects.s3_answers import checksum_in, etag_of, reason_of

_PIECE = 256 * 1024  # bytes that are copied at a time


@attrs.frozen
class PartFacts:
    """The facts of a part that was read, and of all until its end.

    :param sha256: of the part, in hexadecimal digits.
    :param crc32c: of the part, in base64.
    :param whole: the CRC32C of all parts until now.
    :param size: bytes of them.
    """

    sha256: str = ""
    crc32c: str = ""
    whole: int = 0
    size: int = 0

    def behind(self, part: memoryview) -> "PartFacts":
        """The facts of the part that follows this one. Takes a while: for threads."""
        sha256, crc, whole = hashlib.sha256(part), 0, self.whole
        for start in range(0, len(part), _PIECE):
            piece = bytes(part[start : start + _PIECE])
            crc, whole = google_crc32c.extend(crc, piece), google_crc32c.extend(whole, piece)
        return PartFacts(sha256.hexdigest(), crc_text(crc), whole, self.size + len(part))


def crc_text(crc: int) -> str:
    """A CRC32C in base64."""
    return base64.b64encode(crc.to_bytes(4, "big")).decode("ascii")


@attrs.frozen
class SentPart:
    """A part that the service has.

    :param crc32c: in base64; empty if none was sent.
    """

    etag: str
    crc32c: str = ""


@attrs.define
class Multipart:
    """An upload in numbered parts, each of which the service keeps until all are completed.

    :ivar ask: see :meth:`nixery.storage.objects.s3_requests.S3Requests.ask`.
    :ivar name: of the object that appears at the end.
    """

    ask: Callable[..., Awaitable[HttpAnswer]]
    name: str
    id: str
    sent: list[SentPart] = attrs.field(factory=list)

    def query(self, number: int | None = None) -> Mapping[str, object]:
        """The query of requests about the upload, or one of its parts."""
        part = {} if number is None else {"partNumber": number}
        return {**part, "uploadId": self.id}

    async def complete(
        self, limit: float, expected: tuple[int, ...] = (), headers: Mapping[str, str] | None = None
    ) -> HttpAnswer:
        """Have the object appear.

        :param expected: statuses besides 200 that the caller knows what to do with.
        """
        inner = "".join(
            f"<Part><PartNumber>{number}</PartNumber><ETag>&quot;{escape(part.etag)}&quot;</ETag>"
            + (f"<ChecksumCRC32C>{part.crc32c}</ChecksumCRC32C>" if part.crc32c else "")
            + "</Part>"
            for number, part in enumerate(self.sent, 1)
        )
        body = f"<CompleteMultipartUpload>{inner}</CompleteMultipartUpload>".encode("ascii")
        sent = {"Content-Type": "application/xml", **(headers or {})}
        return await self.ask("POST", self.name, limit, (200, *expected), self.query(), sent, body)

    async def abort(self, limit: float) -> None:
        """Have the service drop the parts; never raises."""
        with contextlib.suppress(PassingFault, Refused, StorageFull):
            await self.ask("DELETE", self.name, limit, (200, 204, 404), self.query())


@implementer(IObjectUpload)
class S3Upload:
    """An upload whose parts come one after another. A part that is sent again replaces itself."""

    def __init__(
        self,
        reactor: IReactor,
        parts: Multipart,
        keeps_checksums: bool,
        head: Callable[[str, float], Awaitable[StoredObject | None]],
    ) -> None:
        """
        :param keeps_checksums: whether the service keeps checksums beside objects.
        :param head: describes an object.
        """
        self._reactor = reactor
        self._parts = parts
        self._keeps_checksums = keeps_checksums
        self._head = head
        self._read = PartFacts()
        self._reading: PartFacts | None = None
        self._completing = False

    async def send(self, part: memoryview, last: bool, limit: float) -> StoredObject | None:
        if not self._completing:
            await self._send(part, limit)
        if not last:
            return None
        self._completing = True
        return await self._complete(limit)

    async def _send(self, part: memoryview, limit: float) -> None:
        if self._reading is None:
            self._reading = await in_thread(self._reactor, self._read.behind, part)
        facts = self._reading
        crc32c = facts.crc32c if self._keeps_checksums else ""
        headers = {"x-amz-checksum-crc32c": crc32c} if crc32c else {}
        parts = self._parts
        query = parts.query(len(parts.sent) + 1)
        answer = await parts.ask(
            "PUT", parts.name, limit, (200, 404), query, headers, part, facts.sha256
        )
        if answer.status == 404:
            raise Refused(f"the upload was lost on the way, {reason_of(answer)}")
        parts.sent.append(SentPart(etag_of(answer), crc32c))
        self._read, self._reading = facts, None

    async def _complete(self, limit: float) -> StoredObject:
        name, read = self._parts.name, self._read
        answer = await self._parts.complete(limit, (404,))
        version = etag_of(answer) if answer.status == 200 else ""
        # Each part was compared by its SHA-256: what the service does not say is known.
        checksum = checksum_in(answer) or crc_text(read.whole)
        if version:
            return StoredObject(name, version, read.size, checksum, {})
        # An upload is gone when it is completed: an answer may have been lost. And Ceph 16 does
        # not name the version.
        found = await self._head(name, limit)
        if found is None or found.size != read.size:
            raise Refused(f"the upload was lost on the way, {reason_of(answer)}")
        return attrs.evolve(found, checksum=found.checksum or checksum)

    async def cancel(self, limit: float) -> None:
        await self._parts.abort(limit)
