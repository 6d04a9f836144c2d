"""The JSON API's uploads: in one piece, with a document, or in chunks."""

from typing import Any

import attrs

from tests.gcs.answers import Answer, Asked, Refused
from tests.gcs.json_api import JsonApi
from tests.gcs.media import expected_checksums, split_multipart
from tests.gcs.objects import Bucket, Conditions, Content
from tests.gcs.sessions import UNIT, ContentRange, Session, Sessions


@attrs.define
class Uploads:
    """What is asked below ``/upload``."""

    bucket: Bucket
    api: JsonApi
    sessions: Sessions

    def whole(self, asked: Asked) -> Answer:
        """An upload that is one request."""
        document: dict[str, Any] = {}
        content, kind = asked.body, asked.headers.get("content-type")
        if asked.query["uploadType"] == "multipart":
            document, content, kind = split_multipart(asked)
        name = _name(asked, document)
        conditions = Conditions.of(asked)
        self.bucket.check_write(name, conditions)
        received = Content.of(content)
        received.check(expected_checksums(asked, document))
        fields = {**({"contentType": kind} if kind else {}), **document}
        made = self.bucket.write(name, received, fields, conditions)
        return self.api.describe(made, asked)

    def start(self, asked: Asked) -> Answer:
        """Begin a session, whose address the answer has."""
        document = asked.document()
        name = _name(asked, document)
        kind = asked.headers.get("x-upload-content-type")
        size = asked.headers.get("x-upload-content-length")
        session = self.sessions.start(
            name,
            Conditions.of(asked),
            {**({"contentType": kind} if kind else {}), **document},
            expected_checksums(asked, document),
            int(size) if size else None,
        )
        path = f"{self.api.url}/upload/storage/v1/b/{self.bucket.name}/o"
        location = f"{path}?uploadType=resumable&upload_id={session.id}"
        return Answer(200, {"Location": location, "X-GUploader-UploadID": session.id})

    def chunk(self, asked: Asked, short: bool = False) -> Answer:
        """Take a chunk, or say how much there is.

        :param short: whether only half of the chunk is kept.
        """
        session = self._session(asked)
        if session.stored is None:
            sent = ContentRange.parse(asked.headers.get("content-range"), len(asked.body))
            session.expected = {**session.expected, **expected_checksums(asked, {})}
            session.receive(self.bucket, sent, asked.body, short)
        if session.stored is not None:
            return self.api.describe(session.stored, asked)
        headers = {"X-GUploader-UploadID": session.id}
        if session.data:
            headers["Range"] = f"bytes=0-{len(session.data) - 1}"
        return Answer(308, headers)

    def cut_off(self, asked: Asked) -> None:
        """Keep what came of a chunk whose connection was lost, in whole units."""
        try:
            session = self._session(asked)
            header = asked.headers.get("content-range")
            first = 0 if header is None else int(header.removeprefix("bytes ").partition("-")[0])
            if session.stored is None:
                session.keep(first, asked.body[: len(asked.body) // UNIT * UNIT])
        except (Refused, ValueError):
            return

    def cancel(self, asked: Asked) -> Answer:
        """End a session."""
        session = self._session(asked)
        if session.stored is None:
            session.cancelled = True
            session.data = bytearray()
        raise Refused(499, "clientClosedRequest", "The upload was cancelled.")

    def _session(self, asked: Asked) -> Session:
        return self.sessions.find(asked.query.get("upload_id", ""))


def _name(asked: Asked, document: dict[str, Any]) -> str:
    name = asked.query.get("name") or document.get("name")
    if not isinstance(name, str):
        raise Refused(400, "required", "Required")
    return name
