"""Amazon S3, and what speaks like it, as an object store.

botocore finds credentials and signs. Requests go through treq: one that nobody waits for any more
can be ended.

https://docs.aws.amazon.com/AmazonS3/latest/API/API_Operations_Amazon_Simple_Storage_Service.html
"""

from collections.abc import Mapping, Sequence
from urllib.parse import quote

from twisted.internet.interfaces import IConsumer
from twisted.logger import Logger
from zope.interface import implementer

from nixery.reactor import IReactor
from nixery.storage.keys import is_blob_name, is_staged_name
from nixery.storage.objects.object_store import (
    ABSENT,
    IObjectStore,
    NewObject,
    PassingFault,
    PreconditionFailed,
    Refused,
    StoredObject,
)
from nixery.storage.objects.s3_answers import (
    age_in,
    checksum_in,
    code_of,
    document_of,
    etag_of,
    failure_of,
    is_there,
    object_of,
    objects_in,
    text_of,
)
from nixery.storage.objects.s3_requests import S3Requests
from nixery.storage.objects.s3_trial import Abilities, Trial
from nixery.storage.objects.s3_upload import Multipart, S3Upload, SentPart

_BINARY = "application/octet-stream"
_LARGEST_COPY = 1024**3  # bytes; S3 allows 5 GiB, which takes longer than a request should
_OURS = {"staging": is_staged_name, "layers": is_blob_name}
"""Where uploads go to, and which names there are of our form."""


@implementer(IObjectStore)
class S3Store:
    """One bucket, or a part of it."""

    title = "S3"
    url_age = 150.0  # credentials are good for twice as long, and signing takes no time
    _log = Logger()

    def __init__(
        self, reactor: IReactor, requests: S3Requests, largest_copy: int = _LARGEST_COPY
    ) -> None:
        """
        :param largest_copy: bytes that are copied by one request.
        """
        self._reactor = reactor
        self._largest_copy = largest_copy
        self._requests = requests
        self._ask = requests.ask
        self._start = requests.bucket.prefix
        self._abilities = Abilities()

    @property
    def remarks(self) -> Sequence[str]:
        return self._abilities.remarks

    # --- objects ----------------------------------------------------------------------------

    async def head(self, name: str, limit: float) -> StoredObject | None:
        mode = {"x-amz-checksum-mode": "ENABLED"}
        answer = await self._ask("HEAD", name, limit, (200, 404), headers=mode)
        return object_of(name, answer, self._abilities.checksums) if is_there(answer) else None

    async def read(self, name: str, version: str | None, limit: float) -> bytes | None:
        headers = {} if version is None else _if_match(version)
        answer = await self._ask("GET", name, limit, (200, 404, 412), headers=headers)
        return answer.content if is_there(answer) else None

    async def copy_range(
        self, found: StoredObject, start: int, end: int, consumer: IConsumer, limit: float
    ) -> int:
        condition = _if_match(found.version)
        return await self._requests.copy_range(found.name, condition, start, end, consumer, limit)

    async def write(self, new: NewObject, over: str | None, limit: float) -> StoredObject:
        headers = {"Content-Type": _BINARY, **_meta(new.metadata)}
        if self._abilities.checksums:
            headers["x-amz-checksum-crc32c"] = new.checksum
        if over is not None:
            able = self._abilities
            is_kept = able.creates if over == ABSENT else able.replaces
            headers |= await self._condition(new.name, over, is_kept, limit)
        answer = await self._ask(
            "PUT", new.name, limit, (200, 404, 412), headers=headers, body=new.content
        )
        if answer.status == 412 or code_of(answer) == "NoSuchKey":
            raise PreconditionFailed
        if answer.status != 200:
            raise failure_of(answer)
        # Without one it was compared all the same, by the SHA-256 that is signed.
        checksum = checksum_in(answer) or new.checksum
        return StoredObject(
            new.name, etag_of(answer), len(new.content), checksum, dict(new.metadata)
        )

    async def begin_upload(self, name: str, limit: float) -> S3Upload:
        parts = await self._begin(name, {}, limit)
        return S3Upload(self._reactor, parts, self._abilities.checksums, self.head)

    async def copy(
        self,
        source: StoredObject,
        name: str,
        over: str,
        metadata: Mapping[str, str],
        limit: float,
    ) -> StoredObject:
        # Few services know conditions of copies. Whoever else writes to the place at this moment
        # writes the same content, which the name stands for.
        await self._condition(name, over, False, limit)
        path = quote(f"/{self._requests.bucket.name}/{self._start}{source.name}")
        of_source = {
            "x-amz-copy-source": path,
            "x-amz-copy-source-if-match": f'"{source.version}"',
        }
        if source.size > self._largest_copy:
            await self._copy_parts(source.size, name, of_source, metadata, limit)
        else:
            headers = {"Content-Type": _BINARY, "x-amz-metadata-directive": "REPLACE"}
            headers |= _meta(metadata) | self._with_checksum()
            await self._ask("PUT", name, limit, headers=of_source | headers)
        copied = await self.head(name, limit)
        if copied is None:
            raise PassingFault("what was copied is not there")
        return copied

    async def _copy_parts(
        self,
        size: int,
        name: str,
        of_source: Mapping[str, str],
        metadata: Mapping[str, str],
        limit: float,
    ) -> None:
        """Copy an object that is too large for one request."""
        parts = await self._begin(name, metadata, limit)
        try:
            for start in range(0, size, self._largest_copy):
                span = f"bytes={start}-{min(start + self._largest_copy, size) - 1}"
                headers = {**of_source, "x-amz-copy-source-range": span}
                query = parts.query(len(parts.sent) + 1)
                answer = await self._ask("PUT", name, limit, query=query, headers=headers)
                checksum = text_of(document_of(answer), "ChecksumCRC32C")
                parts.sent.append(SentPart(etag_of(answer), checksum))
            await parts.complete(limit)
        except BaseException:
            await parts.abort(limit)
            raise

    async def _begin(self, name: str, metadata: Mapping[str, str], limit: float) -> Multipart:
        headers = {"Content-Type": _BINARY, **_meta(metadata), **self._with_checksum()}
        if self._abilities.checksums:
            headers["x-amz-checksum-type"] = "FULL_OBJECT"
        answer = await self._ask("POST", name, limit, query={"uploads": ""}, headers=headers)
        if not (found := text_of(document_of(answer), "UploadId")):
            raise Refused("the answer names no upload")
        return Multipart(self._ask, name, found)

    def _with_checksum(self) -> dict[str, str]:
        return {"x-amz-checksum-algorithm": "CRC32C"} if self._abilities.checksums else {}

    async def _condition(self, name: str, over: str, is_kept: bool, limit: float) -> dict[str, str]:
        """The headers of a condition; where it is not kept to, a look at what is there.

        :raises PreconditionFailed: if that is another version.
        """
        if is_kept:
            return {"If-None-Match": "*"} if over == ABSENT else _if_match(over)
        found = await self.head(name, limit)
        if (found.version if found else ABSENT) != over:
            raise PreconditionFailed
        return {}

    async def delete(self, name: str, version: str | None, limit: float) -> None:
        try:
            headers = (
                {}
                if version is None
                else await self._condition(name, version, self._abilities.deletes, limit)
            )
        except PreconditionFailed:
            return
        await self._ask("DELETE", name, limit, (200, 204, 404, 412), headers=headers)

    async def list_page(
        self, prefix: str, page: str | None, limit: float
    ) -> tuple[Sequence[StoredObject], str | None]:
        query: dict[str, object] = {"list-type": 2, "max-keys": 500, "continuation-token": page}
        query["prefix"] = self._start + prefix
        answer = await self._ask("GET", None, limit, query=query)
        following = text_of(document_of(answer), "NextContinuationToken") or None
        _check_next(page, following)
        return list(objects_in(answer, self._start)), following

    async def drop_uploads(self, age: float, limit: float) -> None:
        marks: tuple[str, str] | None = ("", "")
        while marks is not None:
            query: dict[str, object] = {"uploads": "", "prefix": self._start}
            query |= {"key-marker": marks[0] or None, "upload-id-marker": marks[1] or None}
            answer = await self._ask("GET", None, limit, query=query)
            document = document_of(answer)
            for item in document.iter("Upload"):
                name = text_of(item, "Key").removeprefix(self._start)
                begun = age_in(item, "Initiated", answer)
                if _is_ours(name) and begun is not None and begun > age:
                    await Multipart(self._ask, name, text_of(item, "UploadId")).abort(limit)
                    self._log.info("deleted parts of {name}: nobody finished it", name=name)
            is_last = text_of(document, "IsTruncated") != "true"
            names = ("NextKeyMarker", "NextUploadIdMarker")
            after = None if is_last else (text_of(document, names[0]), text_of(document, names[1]))
            _check_next(marks, after)
            marks = after

    # --- how clients get there, and whether it can be used ------------------------------------

    async def url(self, name: str, lifetime: int, limit: float) -> str:
        return await self._requests.signed_url(name, lifetime)

    async def faults(self, redirect: bool, limit: float) -> Sequence[str]:
        trial = Trial(self._requests, limit)
        faults = await trial.faults(redirect)
        self._abilities = trial.abilities
        return faults


def _is_ours(name: str) -> bool:
    """Whether the name of an upload is of our form."""
    folder, _, rest = name.partition("/")
    return folder in _OURS and _OURS[folder](rest)


def _check_next(page: object, following: object) -> None:
    """Refuse a list that names the same page as the next one: it would have no end."""
    if following is not None and following == page:
        raise Refused("the list does not go on")


def _if_match(version: str) -> dict[str, str]:
    return {"If-Match": f'"{version}"'}


def _meta(metadata: Mapping[str, str]) -> dict[str, str]:
    return {f"x-amz-meta-{name}": value for name, value in metadata.items()}
