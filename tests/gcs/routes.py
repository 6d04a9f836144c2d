"""What kind of request a request is, by its method and path."""

import re
from collections.abc import Mapping

import attrs

from tests.gcs.answers import Asked, Refused, decode

_BUCKET = "/b/(?P<bucket>[^/]+)"
_OBJECT = _BUCKET + "/o/(?P<name>[^/]+)"
_TARGET = "/b/(?P<target_bucket>[^/]+)/o/(?P<target>[^/]+)"
_XML = "/(?P<bucket>[^/]+)/(?P<name>.+)"
_V1 = "(?:/download)?/storage/v1"
_MACHINE = "/computeMetadata/v1"

_ROUTES = [
    ("POST", "/token", "token"),
    ("GET", f"(?:/|{_MACHINE}/?)", "machine.ping"),
    ("GET", _MACHINE + "/(?P<name>.+)", "machine.get"),
    ("POST", "/v1/projects/-/serviceAccounts/(?P<name>[^/]+):signBlob", "sign"),
    ("POST", f"/upload/storage/v1{_BUCKET}/o", "upload.start"),
    ("PUT", f"/upload/storage/v1{_BUCKET}/o", "upload.chunk"),
    ("DELETE", f"/upload/storage/v1{_BUCKET}/o", "upload.cancel"),
    ("GET", _V1 + _OBJECT, "object.get"),
    ("DELETE", _V1 + _OBJECT, "object.delete"),
    ("PATCH", _V1 + _OBJECT, "object.patch"),
    ("POST", f"{_V1}{_OBJECT}/rewriteTo{_TARGET}", "object.rewrite"),
    ("POST", f"{_V1}{_OBJECT}/copyTo{_TARGET}", "object.copy"),
    ("GET", f"{_V1}{_BUCKET}/o/?", "object.list"),
    ("GET", _V1 + _BUCKET, "bucket.get"),
    ("GET", f"{_V1}{_BUCKET}/iam/testPermissions", "bucket.permissions"),
    ("GET", _XML, "signed.get"),
    ("HEAD", _XML, "signed.head"),
    ("PUT", _XML, "signed.put"),
]
_NOT_XML = re.compile("/(upload|download|storage|computeMetadata)/")

WITHOUT_TOKEN = ("token", "machine.", "sign")
SESSION = ("upload.chunk", "upload.status", "upload.cancel")
KINDS = tuple(
    sorted({*(kind for _, _, kind in _ROUTES), "upload.media", "upload.status", "object.media"})
)


@attrs.frozen
class Route:
    """Where a request goes.

    :ivar values: the decoded parts of the path.
    """

    kind: str
    values: Mapping[str, str]

    @property
    def name(self) -> str:
        """The object, or what else the path names."""
        return self.values.get("name", "")

    @property
    def is_xml(self) -> bool:
        """Whether errors are in the XML API's form."""
        return self.kind.startswith("signed.")

    def needs_token(self, asked: Asked) -> bool:
        """Whether the request needs a token; a session's address is one, but no bad one goes."""
        if self.kind in SESSION:
            return "authorization" in asked.headers
        return not self.kind.startswith(WITHOUT_TOKEN)


def find_route(asked: Asked) -> Route:
    """
    :raises Refused: if there is nothing of that kind.
    """
    for method, pattern, kind in _ROUTES:
        match = re.fullmatch(pattern, asked.path) if method == asked.method else None
        if match is None or (kind.startswith("signed.") and _NOT_XML.match(asked.path)):
            continue
        values = {name: decode(value) for name, value in match.groupdict().items()}
        return Route(_refined(kind, asked), values)
    raise Refused(404, "notFound", f"Not Found: {asked.method} {asked.path}")


def _refined(kind: str, asked: Asked) -> str:
    """The kind, as far as it depends on the query and the headers."""
    if kind == "upload.start":
        upload_type = asked.query.get("uploadType")
        if upload_type not in ("media", "multipart", "resumable"):
            raise Refused(400, "badRequest", f"Invalid upload type {upload_type}")
        return kind if upload_type == "resumable" else "upload.media"
    if kind == "upload.chunk" and asked.headers.get("content-range", "").startswith("bytes */"):
        return "upload.status"
    if kind == "object.get" and asked.query.get("alt") == "media":
        return "object.media"
    return kind
