"""Reading answers that are ``multipart/byteranges``."""

from werkzeug.http import parse_content_range_header, parse_options_header


def read_parts(media_type: str, body: bytes) -> list[tuple[int, int, int, bytes]]:
    """The parts of an answer: first byte, end, size of the whole, and bytes."""
    kind, options = parse_options_header(media_type)
    assert kind == "multipart/byteranges"
    begin, *parts, end = (b"\r\n" + body).split(b"\r\n--" + options["boundary"].encode("ascii"))
    assert (begin, end) == (b"", b"--\r\n")
    return [_read(part) for part in parts]


def _read(part: bytes) -> tuple[int, int, int, bytes]:
    head, _, content = part.partition(b"\r\n\r\n")
    empty, *lines = head.decode("ascii").split("\r\n")
    assert empty == ""
    headers = dict(line.split(": ", 1) for line in lines)
    assert headers["Content-Type"] == "application/octet-stream"
    found = parse_content_range_header(headers["Content-Range"])
    assert found is not None
    assert found.start is not None
    assert found.stop is not None
    assert found.length is not None
    return found.start, found.stop, found.length, content
