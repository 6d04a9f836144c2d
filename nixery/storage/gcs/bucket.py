"""The objects of a bucket, as the JSON API has them.

https://cloud.google.com/storage/docs/json_api/v1/objects
"""

import base64
import json
import uuid
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from typing import Any
from urllib.parse import quote, urlencode

import attrs
import google_crc32c

from nixery.storage.gcs.answer import Answer, unavailable
from nixery.storage.gcs.patience import Patience
from nixery.storage.gcs.requests import Requests

GOOGLE = "https://storage.googleapis.com"
BINARY = "application/octet-stream"

ABSENT = 0
"""The generation of an object that is not there."""


class PreconditionFailed(Exception):
    """An object has another generation than was asked for."""


@attrs.frozen
class Object:
    """What is known of an object besides its content.

    :param generation: another one whenever the content is written.
    :param size: bytes.
    :param crc32c: of its content, in base64, by the server.
    :param metadata: what its writer noted.
    :param updated: seconds since the epoch, by the server.
    """

    name: str
    generation: int
    size: int
    crc32c: str
    metadata: Mapping[str, str]
    updated: float

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> "Object":
        """The object that a resource of the API describes.

        :raises StorageUnavailable: if it describes none.
        """
        try:
            return cls(
                name=str(document["name"]),
                generation=int(document["generation"]),
                size=int(document["size"]),
                crc32c=str(document["crc32c"]),
                metadata=dict(document.get("metadata") or {}),
                updated=datetime.fromisoformat(document["updated"]).timestamp(),
            )
        except (KeyError, ValueError, TypeError) as error:
            raise unavailable("describing an object", f"{error} is missing or wrong") from error


class Bucket:
    """One bucket. Every method raises ``StorageUnavailable`` if the service fails."""

    def __init__(self, requests: Requests, base: str, name: str) -> None:
        """
        :param base: the service's URL, without a slash at its end.
        """
        self.requests = requests
        self.base = base
        self.name = name
        self._api = f"{base}/storage/v1/b/{quote(name, safe='')}"
        self._uploads = f"{base}/upload/storage/v1/b/{quote(name, safe='')}/o"

    async def stat(self, name: str, patience: Patience | None = None) -> Object | None:
        """An object's description, if it is there."""
        found, _ = await self.stat_with_date(name, patience)
        return found

    async def stat_with_date(
        self, name: str, patience: Patience | None = None
    ) -> tuple[Object | None, float | None]:
        """An object's description, if it is there, and the server's time in seconds."""
        answer = await self.requests.ask(
            f"looking for {name}", "GET", self._url(name), (200, 404), patience=patience
        )
        self._check_missing(answer, name)
        return (Object.parse(answer.document) if answer.status == 200 else None), answer.date

    async def read(
        self, name: str, generation: int | None = None, patience: Patience | None = None
    ) -> bytes | None:
        """An object's content, if it is there; to be used for small ones.

        :param generation: content of another one counts as not there.
        """
        answer = await self.requests.ask(
            f"reading {name}", "GET", self.media_url(name, generation), (200, 404),
            patience=patience,
        )  # fmt: skip
        self._check_missing(answer, name)
        return answer.content if answer.status == 200 else None

    def media_url(self, name: str, generation: int | None = None) -> str:
        """Where an object's content is to be had, with a token."""
        known = {"generation": generation} if generation is not None else {}
        return self._url(name, alt="media", **known)

    async def write(
        self,
        name: str,
        content: bytes | memoryview,
        *,
        over: int | None = None,
        metadata: Mapping[str, str] | None = None,
        crc32c: str | None = None,
        patience: Patience | None = None,
    ) -> Object:
        """Write an object in one request; the server compares its content's checksum.

        :param over: the generation that it is to replace; any if there is none.
        :param crc32c: of the content, if it is known.
        :raises PreconditionFailed: if another one is there. It may be what was just written, if
            an answer was lost.
        :raises StorageFull: if there is no room.
        """
        resource = {
            "name": name,
            "contentType": BINARY,
            "crc32c": crc32c or checksum_of(bytes(content)),
            "metadata": dict(metadata or {}),
        }
        boundary = uuid.uuid4().hex
        head = (
            f"--{boundary}\r\nContent-Type: application/json\r\n\r\n{json.dumps(resource)}\r\n"
            f"--{boundary}\r\nContent-Type: {BINARY}\r\n\r\n"
        )
        answer = await self.requests.ask(
            f"writing {name}",
            "POST",
            f"{self._uploads}?{_query(uploadType='multipart', ifGenerationMatch=over)}",
            (200, 412),
            headers={"Content-Type": f"multipart/related; boundary={boundary}"},
            body=(head.encode("utf-8"), content, f"\r\n--{boundary}--\r\n".encode("ascii")),
            patience=patience,
        )
        return _written(answer)

    async def begin_upload(self, name: str) -> str:
        """Begin a resumable upload: the URL of its session, which is a secret."""
        answer = await self.requests.ask(
            f"beginning the upload of {name}",
            "POST",
            f"{self._uploads}?{_query(uploadType='resumable', name=name)}",
            headers={"Content-Type": "application/json", "X-Upload-Content-Type": BINARY},
            body=(json.dumps({"name": name, "contentType": BINARY}).encode("ascii"),),
        )
        location = answer.header("Location")
        if not location.startswith("http"):
            raise unavailable(f"beginning the upload of {name}", "the answer names no session")
        return location

    async def copy(
        self, source: Object, name: str, *, over: int, metadata: Mapping[str, str]
    ) -> Object:
        """Copy an object within the bucket.

        :param over: the generation that the copy is to replace.
        :raises PreconditionFailed: if another one is there: perhaps the copy itself.
        """
        token: str | None = None
        target = f"{self._api}/o/{quote(name, safe='')}"
        resource = {"contentType": BINARY, "metadata": dict(metadata)}
        while True:
            query = _query(
                ifGenerationMatch=over, sourceGeneration=source.generation, rewriteToken=token
            )
            path = target.removeprefix(f"{self.base}/storage/v1")
            answer = await self.requests.ask(
                f"copying {source.name} to {name}",
                "POST",
                f"{self._api}/o/{quote(source.name, safe='')}/rewriteTo{path}?{query}",
                (200, 412),
                headers={"Content-Type": "application/json"},
                body=(json.dumps(resource).encode("ascii"),),
            )
            if answer.status == 412 or answer.document.get("done", True):
                return _written(answer, answer.document.get("resource"))
            token = answer.document.get("rewriteToken")

    async def delete(
        self, name: str, generation: int | None = None, patience: Patience | None = None
    ) -> None:
        """Delete an object, if it is there and of that generation."""
        await self.requests.ask(
            f"deleting {name}",
            "DELETE",
            self._url(name, ifGenerationMatch=generation),
            (200, 204, 404, 412),
            patience=patience,
        )

    async def objects(self, prefix: str) -> AsyncIterator[tuple[Object, float | None]]:
        """The objects whose names begin so, each with the server's time in seconds."""
        page: str | None = None
        while True:
            query = _query(prefix=prefix, maxResults=500, pageToken=page)
            answer = await self.requests.ask(f"listing {prefix}", "GET", f"{self._api}/o?{query}")
            for item in answer.document.get("items") or ():
                yield Object.parse(item), answer.date
            page = answer.document.get("nextPageToken")
            if not page:
                return

    async def look(self) -> Answer:
        """The least that shows whether the bucket is there; any answer is returned."""
        query = _query(prefix="staging/", maxResults=1)
        url = f"{self._api}/o?{query}"
        return await self.requests.ask(
            f"looking into the bucket {self.name}", "GET", url, (200, 401, 403, 404)
        )

    async def permissions(self, wanted: list[str]) -> Answer:
        """Which of some permissions are granted; any answer is returned."""
        query = urlencode([("permissions", permission) for permission in wanted])
        return await self.requests.ask(
            "asking for permissions",
            "GET",
            f"{self._api}/iam/testPermissions?{query}",
            (200, 400, 401, 403, 404, 405, 501),
        )

    def _url(self, name: str, **query: object) -> str:
        text = _query(**query)
        return f"{self._api}/o/{quote(name, safe='')}" + (f"?{text}" if text else "")

    def _check_missing(self, answer: Answer, name: str) -> None:
        """A bucket that is gone is not the same as an object that is."""
        if answer.status == 404 and "bucket does not exist" in answer.reason:
            raise unavailable(f"looking for {name}", answer.reason)


def checksum_of(content: bytes) -> str:
    """The CRC32C of some bytes, as the API writes it."""
    return checksum(google_crc32c.value(content).to_bytes(4, "big"))


def checksum(digest: bytes) -> str:
    """A CRC32C as the API writes it.

    :param digest: its four bytes, the highest first.
    """
    return base64.b64encode(digest).decode("ascii")


def _query(**parameters: object) -> str:
    return urlencode({name: value for name, value in parameters.items() if value is not None})


def _written(answer: Answer, resource: Mapping[str, Any] | None = None) -> Object:
    if answer.status == 412:
        raise PreconditionFailed()
    return Object.parse(answer.document if resource is None else resource)
