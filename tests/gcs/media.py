"""How objects' bytes go in and out: multipart bodies, checksums, ranges."""

import re
from collections.abc import Mapping
from email.parser import BytesParser
from email.policy import HTTP
from email.utils import formatdate
from typing import Any

from tests.gcs.answers import Answer, Asked, Refused, parse_document
from tests.gcs.objects import StoredObject

_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


def split_multipart(asked: Asked) -> tuple[dict[str, Any], bytes, str | None]:
    """An object's document, bytes and content type, of a ``multipart/related`` body.

    :raises Refused: if the body is none.
    """
    kind = asked.headers.get("content-type", "")
    match = re.fullmatch(r'multipart/related;\s*boundary="?([^";]+)"?', kind)
    if match is None:
        raise Refused(400, "badContent", f"Bad content type for a multipart upload: {kind}")
    boundary = b"--" + match[1].encode()
    parts = re.split(rb"(?:\r?\n)?" + re.escape(boundary) + rb"(?:--)?(?:\r?\n|$)", asked.body)
    if len(parts) < 4 or not asked.body.rstrip().endswith(boundary + b"--"):
        raise Refused(400, "badContent", "Missing end boundary in multipart body.")
    (_, first), (headers, content) = (_split_part(part) for part in parts[1:3])
    return parse_document(first), content, headers.get("content-type")


def _split_part(part: bytes) -> tuple[dict[str, str], bytes]:
    match = re.search(rb"\r?\n\r?\n", part)
    if match is None:
        raise Refused(400, "badContent", "A part without headers.")
    parsed = BytesParser(policy=HTTP).parsebytes(part[: match.end()], headersonly=True)
    return {name.lower(): str(value) for name, value in parsed.items()}, part[match.end() :]


def expected_checksums(asked: Asked, document: Mapping[str, Any]) -> dict[str, str]:
    """The checksums that a client gave, by ``crc32c`` and ``md5``: in an object's document, or in
    the headers."""
    expected: dict[str, str] = {}
    for item in asked.headers.get("x-goog-hash", "").split(","):
        name, _, value = item.strip().partition("=")
        if name in ("crc32c", "md5"):
            expected[name] = value
    if "content-md5" in asked.headers:
        expected["md5"] = asked.headers["content-md5"]
    for name, key in (("crc32c", "crc32c"), ("md5", "md5Hash")):
        if key in document:
            expected[name] = str(document[key])
    return expected


def content_answer(found: StoredObject, asked: Asked) -> Answer:
    """An answer with an object's bytes, or with the range of them that is asked for.

    :raises Refused: if there is nothing in that range.
    """
    data = found.content.data
    headers = {
        "Content-Type": str(found.fields.get("contentType", "application/octet-stream")),
        "Accept-Ranges": "bytes",
        "ETag": f'"{found.etag}"',
        "Last-Modified": formatdate(found.updated, usegmt=True),
        "x-goog-generation": str(found.generation),
        "x-goog-metageneration": str(found.metageneration),
        "x-goog-stored-content-length": str(len(data)),
        "x-goog-stored-content-encoding": "identity",
        "x-goog-storage-class": "STANDARD",
        "x-goog-hash": f"crc32c={found.content.crc32c},md5={found.content.md5}",
    }
    match = _RANGE.fullmatch(asked.headers.get("range", ""))
    if match is None or match[0] == "bytes=-":
        return Answer(200, headers, data, content=True)
    start, end = range_of(match[0], len(data))
    headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(data)}"
    return Answer(206, headers, data[start:end], content=True)


def range_of(span: str, size: int) -> tuple[int, int]:
    """Where a range starts, and the offset behind its end.

    :raises Refused: if there is nothing in it.
    """
    match = _RANGE.fullmatch(span)
    if match is None:
        raise Refused(400, "InvalidArgument", f"No range: {span}")
    first, last = match.groups()
    if first:
        start, end = int(first), min(int(last) + 1, size) if last else size
    else:
        start, end = max(size - int(last), 0), size
    if start >= end:
        headers = {"Content-Range": f"bytes */{size}"}
        message = "The requested range cannot be satisfied."
        raise Refused(416, "requestedRangeNotSatisfiable", message, headers=headers)
    return start, end
