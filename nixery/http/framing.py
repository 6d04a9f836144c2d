"""The rules that a request's head must keep before anything else reads it: pure.

Proxies and servers that read a doubtful head in different ways can be made to mistake the body
of one request for another. So whatever is doubtful is refused, also where RFC 9112 would let it
be repaired: no client needs it.
"""

import re
from http import HTTPStatus

import attrs

from nixery.http.answers import error_document

_MOST_HEADERS = 500
# Twisted keeps the names that it has seen, ten thousand of them, for ever.
_LONGEST_NAME = 128
_CONTROLS = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_LENGTH = re.compile(rb"[0-9]{1,18}")
_NO_METHOD = re.compile(rb"[\x00-\x09\x0b\x0c\x0e-\x20\x7f]")
_HANDSHAKE = 0x16
_SSL2_LENGTH = 0x80


@attrs.frozen
class Refusal:
    """The answer to a request that can't be read; the connection ends with it.

    :param reason: a word for those who count refusals.
    :param code: of the registry's error document.
    :param retry_after: seconds after which it may go well.
    :param usual: whether proper clients meet it every day, so that it is not worth a line of log.
    """

    reason: str
    status: int
    code: str
    message: str
    retry_after: int | None = None
    usual: bool = False

    def to_bytes(self, id: str) -> bytes:
        """The whole answer.

        :param id: the request's.
        """
        body = error_document(self.code, self.message)
        lines = [
            f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}",
            "Server: nixery",
            f"X-Request-ID: {id}",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
            "Connection: close",
        ]
        if self.retry_after is not None:
            lines.append(f"Retry-After: {self.retry_after}")
        return "\r\n".join([*lines, "", ""]).encode("ascii") + body


def _refusal(reason: str, status: int, message: str, usual: bool = False) -> Refusal:
    return Refusal(reason, status, "UNSUPPORTED", message, usual=usual)


def _malformed(message: str) -> Refusal:
    return _refusal("malformed", 400, message)


MALFORMED = _malformed("this is not an HTTP request")
TLS_IN_PLAIN = _refusal(
    "tls", 400, "this port speaks plain HTTP and received a TLS handshake; use http:// here", True
)
TARGET_TOO_LONG = _refusal("header_size", 414, "the request target is too long")
HEAD_TOO_LARGE = _refusal("header_size", 431, "the request headers are too large")
BODY_TOO_LARGE = _refusal("body_size", 413, "the request's body is larger than is taken here")
TOO_SLOW = _refusal("slow", 408, "the request took too long to arrive")


def opening_fault(data: bytes) -> Refusal | None:
    """The refusal of the bytes that a request begins with, if they are wrong already.

    What is no request may have no line end either, which could be waited for in vain. The first
    byte tells a TLS handshake, be it in the form of SSL 2: it is a record's type, or the upper half
    of a length whose top bit is set.

    :param data: at least one byte.
    """
    if data[0] == _HANDSHAKE or data[0] >= _SSL2_LENGTH:
        return TLS_IN_PLAIN
    return MALFORMED if _NO_METHOD.match(data) else None


@attrs.define
class RequestHead:
    """A request's first line and headers, as they come.

    :param most: bytes that they may have together.
    """

    most: int
    _size: int = 0
    _lines: int = 0

    def too_long(self) -> Refusal:
        """The refusal of a line that is too long, or does not end."""
        return HEAD_TOO_LARGE if self._lines else TARGET_TOO_LONG

    def take(self, line: bytes) -> Refusal | None:
        """The refusal of the next line, if anything is wrong with it.

        :param line: without its end; an empty one ends the head, or stands before it.
        """
        if not line:
            return None
        first = not self._lines
        self._lines += 1
        self._size += len(line) + 2
        if self._size > self.most:
            return TARGET_TOO_LONG if first else HEAD_TOO_LARGE
        if self._lines > _MOST_HEADERS + 1:
            return HEAD_TOO_LARGE
        if _CONTROLS.search(line):
            return _malformed("a request must not contain control characters before its body")
        return None if first else _header_fault(line)


def _header_fault(line: bytes) -> Refusal | None:
    if line[:1] in b" \t":
        return _malformed("a header must not be continued on another line")
    name, _, value = line.partition(b":")
    if len(name) > _LONGEST_NAME:
        return HEAD_TOO_LARGE
    value = value.strip(b" \t")
    match name.lower():
        case b"content-length" if not _LENGTH.fullmatch(value):
            return _malformed("Content-Length must be a number")
        case b"transfer-encoding" if value.lower() != b"chunked":
            return _malformed("Transfer-Encoding must be 'chunked'")
    return None


def body_fault(version: bytes, length: int | None, most: int) -> Refusal | None:
    """The refusal of the body that a head announces, if anything is wrong with it.

    :param length: bytes; none if it comes in chunks.
    :param most: bytes that it may have.
    """
    if length is None:
        # A proxy that speaks HTTP/1.0 knows of no chunks.
        return _malformed("HTTP/1.0 has no chunked encoding") if version == b"HTTP/1.0" else None
    return BODY_TOO_LARGE if length > most else None
