"""What the server is asked, and what it answers: values that know nothing of a connection."""

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, quote, unquote

import attrs


@attrs.frozen
class Asked:
    """A request with its body.

    :ivar path: as it came, encoded.
    :ivar raw_query: as it came, encoded.
    :ivar headers: lower-case names.
    """

    method: str
    path: str
    raw_query: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def query(self) -> dict[str, str]:
        """The decoded query; of a repeated name, the last value."""
        return dict(parse_qsl(self.raw_query, keep_blank_values=True))

    def number(self, name: str) -> int | None:
        """A number of the query, or nothing if it isn't there.

        :raises Refused: if it is no number.
        """
        value = self.query.get(name)
        if value is None:
            return None
        if not value.isascii() or not value.isdigit():
            raise Refused(400, "invalid", f"Invalid value for: {name}")
        return int(value)

    def document(self) -> dict[str, Any]:
        """The JSON object in the body; an empty one if there is no body.

        :raises Refused: if the body is something else.
        """
        return parse_document(self.body)


def parse_document(body: bytes) -> dict[str, Any]:
    """A JSON object, or an empty one if there is nothing.

    :raises Refused: if it is something else.
    """
    if not body:
        return {}
    try:
        document = json.loads(body)
    except ValueError as error:
        raise Refused(400, "parseError", "Parse Error") from error
    if not isinstance(document, dict):
        raise Refused(400, "parseError", "Parse Error")
    return document


@attrs.frozen
class Answer:
    """An answer; its headers have no ``Content-Length``, which follows from the body.

    :ivar content: whether the body is an object's content, which faults may damage.
    """

    status: int
    headers: Mapping[str, str] = attrs.field(factory=dict)
    body: bytes = b""
    content: bool = False


@attrs.define
class Refused(Exception):
    """A request that is answered with an error.

    :ivar reason: the JSON API's reason, or the XML API's code.
    :ivar domain: the JSON API's domain of the reason.
    :ivar details: further XML elements.
    """

    status: int
    reason: str
    message: str
    domain: str = "global"
    details: Mapping[str, str] = attrs.field(factory=dict)
    headers: Mapping[str, str] = attrs.field(factory=dict)

    def as_json(self) -> Answer:
        """The error as the JSON API says it; without a body where HTTP allows none."""
        if self.status in (304, 308):
            return Answer(self.status, self.headers)
        error = {"message": self.message, "domain": self.domain, "reason": self.reason}
        document = {"code": self.status, "message": self.message, "errors": [error]}
        return json_answer({"error": document}, self.status, self.headers)

    def as_xml(self) -> Answer:
        """The error as the XML API says it."""
        if self.status == 304:
            return Answer(self.status, self.headers)
        fields = {"Code": self.reason, "Message": self.message, **self.details}
        inner = "".join(f"<{name}>{_escape(text)}</{name}>" for name, text in fields.items())
        body = f"<?xml version='1.0' encoding='UTF-8'?><Error>{inner}</Error>".encode()
        headers = {"Content-Type": "application/xml; charset=UTF-8", **self.headers}
        return Answer(self.status, headers, body)


def json_answer(
    document: dict[str, Any], status: int = 200, headers: Mapping[str, str] | None = None
) -> Answer:
    """An answer that is a JSON document."""
    body = json.dumps(document, indent=1).encode()
    fields = {"Content-Type": "application/json; charset=UTF-8", **(headers or {})}
    return Answer(status, fields, body)


def encode(text: str, safe: str = "") -> str:
    """Percent-encode as V4 signatures and the JSON API's paths have it."""
    return quote(text, safe=safe + "~")


def decode(text: str) -> str:
    """Undo percent-encoding.

    :raises Refused: if there is no such text.
    """
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError as error:
        raise Refused(400, "invalid", "Invalid UTF-8 in the path") from error


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
