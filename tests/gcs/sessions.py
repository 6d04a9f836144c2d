"""Resumable uploads."""

import base64
import hashlib
import re
import secrets
from collections.abc import Mapping
from typing import Any

import attrs
import google_crc32c

from tests.gcs.answers import Refused
from tests.gcs.objects import Bucket, Conditions, Content, StoredObject, crc32c_text

UNIT = 256 * 1024
"""Bytes that a chunk's size has to be a multiple of, if it isn't the last one."""
LIFETIME = 7 * 24 * 3600
"""Seconds after which a session is over."""
_RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|(\*))/(?:(\d+)|(\*))")


@attrs.frozen
class ContentRange:
    """Which of an object's bytes a request carries.

    :ivar first: the offset of the first one, or nothing if it carries none.
    :ivar end: the offset behind the last one.
    :ivar total: the object's size, if that is known.
    """

    first: int | None
    end: int
    total: int | None

    @classmethod
    def parse(cls, header: str | None, length: int) -> "ContentRange":
        """Read a header; without one, the request carries the whole object.

        :raises Refused: if it can't be read, or says something else than the body's length.
        """
        if header is None:
            return cls(0, length, length)
        match = _RANGE.fullmatch(header)
        if match is None:
            raise Refused(400, "invalid", f"Failed to parse Content-Range header: {header}")
        total = int(match[4]) if match[4] else None
        first, end = (None, 0) if match[3] else (int(match[1]), int(match[2]) + 1)
        carried = 0 if first is None else end - first
        if carried != length or (total is not None and end > total):
            raise Refused(400, "invalid", f"Content-Range {header} with {length} bytes of body")
        return cls(first, end, total)


@attrs.define
class Session:
    """An upload that may be gone on with.

    :ivar expected: the checksums that the object must have.
    :ivar size: how large the object is to be, if that was said.
    :ivar stored: what came of it in the end.
    """

    name: str
    conditions: Conditions
    fields: Mapping[str, Any]
    expected: Mapping[str, str]
    size: int | None
    started: float
    id: str = attrs.field(factory=lambda: secrets.token_urlsafe(24))
    data: bytearray = attrs.field(factory=bytearray, repr=False)
    stored: StoredObject | None = None
    cancelled: bool = False
    _crc: int = 0
    _md5: Any = attrs.field(factory=hashlib.md5)

    def receive(self, bucket: Bucket, sent: ContentRange, body: bytes, short: bool) -> None:
        """Take a chunk; afterwards :attr:`stored` says if that was the last one.

        :param short: whether only half of the chunk is kept.
        :raises Refused: if the chunk doesn't fit, or the object may not be written.
        """
        last = sent.total is not None and sent.end == sent.total
        if sent.first is not None and not last and len(body) % UNIT:
            message = f"Chunks other than the last one must be multiples of {UNIT} bytes."
            raise Refused(400, "badRequest", message)
        if self.size is not None and sent.total not in (None, self.size):
            raise Refused(400, "invalid", "The size is another than the session was begun with.")
        if sent.first is not None:
            if short:
                body, last = body[: len(body) // 2 // UNIT * UNIT], False
            self.keep(sent.first, body)
        if last or (sent.first is None and sent.total == len(self.data)):
            self._finish(bucket)

    def keep(self, first: int, body: bytes) -> None:
        """Append what isn't there yet.

        :raises Refused: if something lacks in between.
        """
        there = len(self.data)
        if first > there:
            message = (
                "Invalid request.  According to the Content-Range header, the upload offset is "
                f"{first} byte(s), which exceeds already uploaded size of {there} byte(s)."
            )
            raise Refused(503, "backendError", message)
        fresh = memoryview(body)[there - first :]
        self.data += fresh
        self._crc = google_crc32c.extend(self._crc, bytes(fresh))
        self._md5.update(fresh)

    def _finish(self, bucket: Bucket) -> None:
        md5 = base64.b64encode(self._md5.digest()).decode()
        content = Content(bytes(self.data), crc32c_text(self._crc), md5)
        content.check(self.expected)
        self.stored = bucket.write(self.name, content, self.fields, self.conditions)
        self.data = bytearray()


@attrs.define
class Sessions:
    """The sessions of a bucket, by their ids."""

    bucket: Bucket
    open: dict[str, Session] = attrs.field(factory=dict)

    def start(
        self,
        name: str,
        conditions: Conditions,
        fields: Mapping[str, Any],
        expected: Mapping[str, str],
        size: int | None,
    ) -> Session:
        """
        :raises Refused: if the object may not be written.
        """
        self.bucket.check_write(name, conditions)
        now = self.bucket.clock.now()
        session = Session(name, conditions, fields, expected, size, now)
        self.open[session.id] = session
        return session

    def find(self, session_id: str) -> Session:
        """
        :raises Refused: if there is no such session any more.
        """
        session = self.open.get(session_id)
        if session is None:
            raise Refused(404, "notFound", "No such upload session")
        if session.cancelled:
            raise Refused(499, "clientClosedRequest", "The upload was cancelled.")
        if self.bucket.clock.now() > session.started + LIFETIME:
            raise Refused(410, "uploadExpired", "The upload session is over.")
        return session
