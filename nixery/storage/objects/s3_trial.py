"""A trial of a bucket of S3: all that the storage does is done once, with an object of its own.

There are no other means: the permissions that credentials have can't be asked for, nor what a
service that speaks like S3 has of it.
"""

import uuid
from collections.abc import Sequence
from typing import Any

import attrs
from twisted.logger import Logger

from nixery.model.service_errors import StorageFull
from nixery.storage.objects.http_client import HttpAnswer, url_faults
from nixery.storage.objects.object_store import NewObject, PassingFault
from nixery.storage.objects.s3_answers import (
    checksum_in,
    document_of,
    etag_of,
    failure_of,
    is_not_accepted,
    other_region,
    reason_of,
    text_of,
)
from nixery.storage.objects.s3_requests import S3Requests

_TRIED = (200, 204, 400, 403, 404, 409, 412, 501)
_LOOKED = (200, 301, 307, 400, 401, 403, 404)
_NO_VERSION = {"If-Match": f'"{32 * "0"}"'}
_WITHOUT = {
    "creates": "knows no If-None-Match of writes: two instances that are asked for a new image at "
    "the same moment may both make it",
    "replaces": "knows no If-Match of writes: two instances that wait for a third one, which is no "
    "more, may both make its image",
    "deletes": "knows no If-Match of deletions: what was written anew at the same moment may be "
    "deleted, and is made again",
    "checksums": "keeps no CRC32C checksums: a layer whose content was altered in the bucket is "
    "noticed by clients alone",
}


@attrs.define
class Abilities:
    """What a service has of S3, as far as others lack it.

    :ivar creates: whether it keeps to ``If-None-Match`` of writes.
    :ivar replaces: whether it keeps to ``If-Match`` of writes.
    :ivar deletes: whether it keeps to ``If-Match`` of deletions.
    :ivar checksums: whether it keeps CRC32C checksums of objects.
    """

    creates: bool = True
    replaces: bool = True
    deletes: bool = True
    checksums: bool = True

    @property
    def remarks(self) -> list[str]:
        """A sentence for each thing that is lacking."""
        has = attrs.asdict(self)
        return [f"the service {text}" for name, text in _WITHOUT.items() if not has[name]]


class Trial:
    """One trial.

    :ivar abilities: what was found out of the service.
    """

    _log = Logger()

    def __init__(self, requests: S3Requests, limit: float) -> None:
        """
        :param limit: seconds that one request may take.
        """
        self.abilities = Abilities()
        self._requests = requests
        self._limit = limit
        self._name = f"staging/{uuid.uuid4().hex}"
        self._missing: list[str] = []

    async def faults(self, redirect: bool) -> Sequence[str]:
        """The reasons why the bucket can't be used; see :meth:`IObjectStore.faults`."""
        requests, bucket = self._requests, self._requests.bucket
        query = {"list-type": 2, "max-keys": 1, "prefix": f"{bucket.prefix}staging/"}
        looked = await requests.ask("GET", None, self._limit, _LOOKED, query)
        if (region := other_region(looked, await requests.region())) is not None:
            return [f"the bucket {bucket.name!r} is in the region {region!r}: set AWS_REGION"]
        if looked.status == 404:
            return [f"there is no bucket {bucket.name!r}"]
        if is_not_accepted(looked):
            return [f"the credentials are not accepted: {reason_of(looked)}"]
        if looked.status not in (200, 403):
            return [reason_of(looked)]
        if looked.status == 403:
            self._missing.append("s3:ListBucket")
        try:
            await self._try_objects()
            await self._try_upload()
        except StorageFull:
            self._log.warn(
                "the bucket is full: only what it holds is served; restart the daemon when there "
                "is room, since what the service has of S3 could not be tried"
            )
        if self._missing:
            return [f"these permissions are missing in {bucket.name!r}: {', '.join(self._missing)}"]
        return await self._url_faults() if redirect else []

    async def _try_objects(self) -> None:
        abilities, new = self.abilities, NewObject(self._name, uuid.uuid4().bytes)
        given = {"x-amz-checksum-crc32c": new.checksum}
        await self._try("s3:PutObject", "PUT", headers=given, body=new.content)
        mode = {"x-amz-checksum-mode": "ENABLED"}
        # Who may neither write nor list is not told more than that there is nothing.
        tells = self._missing != ["s3:ListBucket", "s3:PutObject"]
        found = await self._try("s3:GetObject" if tells else "", "HEAD", headers=mode)
        abilities.checksums = found.status != 200 or checksum_in(found) == new.checksum
        # To some services, an ETag in quotes is always another one.
        same = {"If-Match": f'"{etag_of(found)}"'}
        statuses = [
            (await self._try("", "PUT", headers=condition, body=new.content)).status
            for condition in (_NO_VERSION, same, {"If-None-Match": "*"})
        ]
        abilities.replaces, abilities.creates = statuses[:2] == [412, 200], statuses[2] == 412
        abilities.deletes = (await self._try("", "DELETE", headers=_NO_VERSION)).status == 412
        await self._try("s3:DeleteObject", "DELETE")

    async def _try_upload(self) -> None:
        begun = await self._try("", "POST", query={"uploads": ""})
        listing = {"uploads": "", "prefix": f"{self._requests.bucket.prefix}staging/"}
        await self._try("s3:ListBucketMultipartUploads", "GET", None, query=listing)
        if upload := text_of(document_of(begun), "UploadId"):
            await self._try("s3:AbortMultipartUpload", "DELETE", query={"uploadId": upload})

    async def _try(
        self, permission: str, method: str, name: str | None = "", **options: Any
    ) -> HttpAnswer:
        """Try one thing.

        :param permission: what it takes; empty if that is tried elsewhere.
        :param name: of an object, if not the trial's own; ``None`` for the bucket.
        """
        name = self._name if name == "" else name
        answer = await self._requests.ask(method, name, self._limit, _TRIED, **options)
        failure = failure_of(answer) if answer.status >= 400 else None
        if isinstance(failure, StorageFull):
            raise failure
        if permission and answer.status == 403:
            self._missing.append(permission)
        elif permission and failure is not None and not self._missing:
            raise failure
        return answer

    async def _url_faults(self) -> list[str]:
        url = await self._requests.signed_url(f"layers/{64 * '0'}", 300)
        try:
            return await url_faults(self._requests.client, url, self._limit)
        except PassingFault as fault:
            if self._requests.bucket.public_endpoint is None:
                raise
            text = "signed URLs could not be tried from here: {reason}"
            self._log.warn(text, reason=str(fault))
            return []
