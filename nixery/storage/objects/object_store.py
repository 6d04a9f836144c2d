"""The interface of object stores, as Google Cloud Storage, S3 and their like can provide it. One
more store is one more implementation.

Every method makes one attempt. Repetition, time limits in all, caching and the choice of names are
the storage's. A method may be repeated after :exc:`PassingFault`, whatever the first attempt did.

How the two families map to it:

====================  ==============================  =====================================
here                  Google Cloud Storage            S3
====================  ==============================  =====================================
version               generation                      ETag
``over=ABSENT``       ifGenerationMatch=0             If-None-Match: *; of copies, and where
                                                      the service has it not, a look before
``over=version``      ifGenerationMatch               If-Match, likewise
checksum              crc32c, always there            x-amz-checksum-crc32c of the full object;
                                                      where the service has none, as noted
upload                resumable session, parts of     multipart upload, numbered parts of at
                      a multiple of 256 KiB           least 5 MiB, completed by their ETags
copy                  rewrite, with a token           CopyObject with new metadata, or
                                                      UploadPartCopy above 1 GiB
====================  ==============================  =====================================

Neither can rename, and metadata is fixed when an upload begins, before its digest is known: so a
large blob is uploaded under ``staging/`` and copied within the bucket.
"""

import base64
from collections.abc import Mapping, Sequence

import attrs
import google_crc32c
from twisted.internet.interfaces import IConsumer
from zope.interface import Attribute, Interface

ABSENT = ""
"""The version of an object that is not there."""


class PassingFault(Exception):
    """An attempt failed, and another one may succeed; whether it had an effect is unknown.

    :ivar retry_after: seconds that the service asks to be left alone.
    :ivar progress: whether the attempt got further than the one before it.
    """

    def __init__(self, reason: str, retry_after: float = 0, progress: bool = False) -> None:
        super().__init__(reason)
        self.retry_after = retry_after
        self.progress = progress


class Refused(Exception):
    """The store refused an attempt, and would refuse it again; the text is the reason."""


class PreconditionFailed(Exception):
    """The object at a name has another version than the caller asked for."""


@attrs.frozen
class StoredObject:
    """An object without its content.

    :param version: changes whenever the content is written.
    :param size: bytes.
    :param checksum: the CRC32C of the content in base64, computed by the store.
    :param metadata: as its writer gave it.
    :param age: seconds since the last write, by the store's own clock when it described the
        object; nothing if it did not tell the time.
    """

    name: str
    version: str
    size: int
    checksum: str
    metadata: Mapping[str, str]
    age: float | None = None


@attrs.frozen
class NewObject:
    """An object to be written in one request.

    :param metadata: strings that the store keeps beside the content.
    :param checksum: the content's CRC32C in base64, which the store compares.
    """

    name: str
    content: bytes | memoryview
    metadata: Mapping[str, str] = attrs.Factory(dict)
    checksum: str = attrs.field()

    @checksum.default
    def _checksum(self) -> str:
        return checksum_of(bytes(self.content))


def checksum_of(content: bytes) -> str:
    """The CRC32C of some bytes in base64."""
    return base64.b64encode(google_crc32c.value(content).to_bytes(4, "big")).decode("ascii")


class IObjectUpload(Interface):
    """An object that is uploaded in parts, and appears with the last one."""

    async def send(part: memoryview, last: bool, limit: float) -> StoredObject | None:
        """Send the next part, or after :exc:`PassingFault` the same one again.

        :param part: of the size that the upload was begun with; the last one may be smaller.
        :param limit: seconds that one request may take.
        :return: the object after the last part.
        :raises Refused: if the upload is lost.
        :raises StorageFull: if there is no room.
        """

    async def cancel(limit: float) -> None:
        """Have the store drop the parts; never raises."""


class ICredentials(Interface):
    """Access tokens of a service."""

    async def token() -> str | None:
        """An access token that is good for a while; nothing if none is wanted.

        :raises PassingFault: if there is none now.
        :raises Refused: if there is none to be had.
        """

    def reject(token: str) -> None:
        """Note that the service did not take a token: it is not given out again."""


class IObjectStore(Interface):
    """A bucket. Except where noted, methods raise ``PassingFault``, ``Refused`` and, if they
    write, ``StorageFull``; ``limit`` is the seconds that one request may take."""

    title: str = Attribute("The service's name, for messages.")
    remarks: Sequence[str] = Attribute(
        "What operators should know of the service, a sentence each; complete after faults()."
    )

    url_age: float = Attribute(
        "Seconds after which a URL is not handed out any more, however long it was to work for: "
        "the credentials that signed it may end before."
    )

    async def head(name: str, limit: float) -> StoredObject | None:
        """Describe an object, if it is there."""

    async def read(name: str, version: str | None, limit: float) -> bytes | None:
        """The content of a small object, if it is there.

        :param version: the only one that counts, if one is given.
        """

    async def copy_range(
        found: StoredObject, start: int, end: int, consumer: IConsumer, limit: float
    ) -> int:
        """Write a part of an object to a consumer, no faster than it takes the bytes.

        :param limit: seconds until the first byte.
        :return: bytes that were written, fewer than asked for if the connection was lost.
        :raises CancelledError: if the consumer wants no more.
        """

    async def write(new: NewObject, over: str | None, limit: float) -> StoredObject:
        """Write an object in one request.

        :param over: the version to replace; ``None`` for any.
        :raises PreconditionFailed: if another version is there. It may be what was just written,
            if an earlier attempt's answer was lost.
        """

    async def begin_upload(name: str, limit: float) -> IObjectUpload:
        """Begin an upload in parts."""

    async def copy(
        source: StoredObject, name: str, over: str, metadata: Mapping[str, str], limit: float
    ) -> StoredObject:
        """Copy an object within the bucket, with other metadata.

        :param over: as in :meth:`write`, with the same error.
        """

    async def delete(name: str, version: str | None, limit: float) -> None:
        """Delete an object, if it is there and of that version; ``None`` for any."""

    async def list_page(
        prefix: str, page: str | None, limit: float
    ) -> tuple[Sequence[StoredObject], str | None]:
        """A page of the objects whose names begin with a prefix; S3 lists them without checksum
        and metadata, which may be empty here.

        :param page: which one; ``None`` for the first.
        :return: also the next page, if there is one.
        """

    async def drop_uploads(age: float, limit: float) -> None:
        """Have the store drop the parts of uploads and copies that nobody finished, if it does not
        do so by itself.

        :param age: seconds since they were begun.
        """

    async def url(name: str, lifetime: int, limit: float) -> str:
        """A URL by which anybody can GET an object, signed if the store has what signs.

        :param lifetime: seconds that it works for.
        """

    async def faults(redirect: bool, limit: float) -> Sequence[str]:
        """The reasons why the bucket can't be used, a phrase for each.

        :param redirect: whether signed URLs are to be tried as well.
        """
