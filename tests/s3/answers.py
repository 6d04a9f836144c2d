"""Answers of S3: XML documents, and objects."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from xml.sax.saxutils import escape

from tests.gcs.answers import Answer

_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"


def xml_answer(
    root: str, inner: str, headers: Mapping[str, str] | None = None, status: int = 200
) -> Answer:
    """An answer that is a document."""
    body = f"<?xml version='1.0' encoding='UTF-8'?>\n<{root} xmlns='{_NAMESPACE}'>{inner}</{root}>"
    return Answer(status, {"Content-Type": "application/xml", **(headers or {})}, body.encode())


def fields(**values: object) -> str:
    """Elements with text; those without any are left out."""
    texts = {name: str(value) for name, value in values.items() if value not in (None, "")}
    return "".join(f"<{name}>{escape(text)}</{name}>" for name, text in texts.items())


def each(name: str, items: Iterable[str]) -> str:
    """Elements of one name."""
    return "".join(f"<{name}>{item}</{name}>" for item in items)


def moment(seconds: float) -> str:
    """A time as lists have it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
