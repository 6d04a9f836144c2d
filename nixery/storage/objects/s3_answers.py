"""Answers of S3, and what they mean."""

import re
from collections.abc import Iterator
from datetime import datetime
from email.utils import parsedate_to_datetime
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from nixery.model.service_errors import StorageFull
from nixery.model.text import cut
from nixery.storage.objects.http_client import PASSING, HttpAnswer
from nixery.storage.objects.object_store import PassingFault, Refused, StoredObject

NOTED = "nixery-crc32c"
"""The metadata in which a blob's checksum is noted."""
_META = "x-amz-meta-"
_LONGEST = 4 * 1024 * 1024
"""Bytes of a document: several times those of a page of a list with the longest names."""
_FULL = ("QuotaExceeded", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded")
_PASSING = frozenset(
    {
        *("BadDigest", "ConditionalRequestConflict", "IncompleteBody", "InternalError"),
        *("OperationAborted", "RequestTimeout", "ServiceUnavailable", "SlowDown", "Throttling"),
        *("ThrottlingException", "XAmzContentSHA256Mismatch"),
    }
)
"""Codes of faults that may pass, whatever their status."""
_NOT_ACCEPTED = frozenset(
    {
        *("AuthorizationHeaderMalformed", "ExpiredToken", "InvalidAccessKeyId", "InvalidToken"),
        *("RequestTimeTooSkewed", "SignatureDoesNotMatch", "TokenRefreshRequired"),
    }
)


def document_of(answer: HttpAnswer) -> Element:
    """The XML document in an answer, its names without namespaces; an empty one if there is none.

    :raises PassingFault: for one that is cut short, or too long: it is no answer.
    """
    text = answer.content.strip()
    if not text.startswith(b"<"):
        return Element("")
    try:
        if len(text) > _LONGEST:
            raise PassingFault("the answer is too long")
        document = ElementTree.fromstring(text)
    except ElementTree.ParseError:
        if answer.status >= 300:  # a proxy's page
            return Element("")
        raise PassingFault("the answer was cut short") from None
    for element in document.iter():
        element.tag = element.tag.rpartition("}")[2]
    return document


def text_of(element: Element, name: str) -> str:
    """The text of an element within another one; empty if there is none."""
    return element.findtext(name) or ""


def code_of(answer: HttpAnswer) -> str:
    """The code of the error in an answer, whatever its status; empty if there is none.

    An answer that takes long is begun before it is known how it ends: a status of 200 says nothing
    about copies, nor about uploads that are completed.
    """
    document = document_of(answer)
    return text_of(document, "Code") if document.tag == "Error" else ""


def reason_of(answer: HttpAnswer) -> str:
    """The fault, in the service's words."""
    code, message = code_of(answer), text_of(document_of(answer), "Message")
    return answer.reason(f"{code}: {message}" if code else None)


def failure_of(answer: HttpAnswer) -> Exception:
    """The exception for an answer that was not expected."""
    code = code_of(answer)
    if answer.status == 507 or code in _FULL:
        return StorageFull("the bucket")
    if answer.status in PASSING or code in _PASSING:
        return PassingFault(reason_of(answer), answer.retry_after)
    return Refused(reason_of(answer))


def is_there(answer: HttpAnswer) -> bool:
    """Whether an object is there; a bucket that is not is another thing."""
    if answer.status == 404 and code_of(answer) == "NoSuchBucket":
        raise Refused(reason_of(answer))
    return answer.status == 200


def is_not_accepted(answer: HttpAnswer) -> bool:
    """Whether the credentials or the signature are not accepted. An answer to HEAD says no more
    than its status."""
    if answer.status not in (400, 401, 403):
        return False
    return not answer.content or code_of(answer) in _NOT_ACCEPTED


def other_region(answer: HttpAnswer, region: str) -> str | None:
    """The region that a bucket is in, if it is another one."""
    found = answer.header("x-amz-bucket-region") or text_of(document_of(answer), "Region")
    return found if found and found != region and answer.status >= 300 else None


def etag_of(answer: HttpAnswer) -> str:
    """The version of the object that an answer is about."""
    return version_of(answer.header("ETag") or text_of(document_of(answer), "ETag"))


def version_of(etag: str) -> str:
    """An ETag without quotes."""
    return etag.removeprefix("W/").strip('"')


def checksum_in(answer: HttpAnswer) -> str:
    """The checksum of the whole object, if an answer states it; empty if it does not, or that of
    parts' checksums."""
    found = answer.header("x-amz-checksum-crc32c") or text_of(document_of(answer), "ChecksumCRC32C")
    return "" if "-" in found else found


def object_of(name: str, answer: HttpAnswer, keeps_checksums: bool) -> StoredObject:
    """The object that an answer to HEAD describes.

    :param keeps_checksums: whether the service states the content's checksum; if not, the one that
        was noted when the object was written has to do.
    """
    names = (key.decode("ascii").lower() for key, _ in answer.headers.getAllRawHeaders())
    metadata = {
        name.removeprefix(_META): answer.header(name) for name in names if name.startswith(_META)
    }
    try:
        modified = parsedate_to_datetime(answer.header("Last-Modified")).timestamp()
        size = int(answer.header("Content-Length"))
    except (TypeError, ValueError) as error:
        raise Refused(f"an object's description is wrong: {error}") from error
    checksum = checksum_in(answer)
    if not checksum and not keeps_checksums:
        checksum = metadata.get(NOTED, "")
    age = None if answer.date is None else answer.date - modified
    return StoredObject(name, etag_of(answer), size, checksum, metadata, age)


def age_in(element: Element, name: str, answer: HttpAnswer) -> float | None:
    """Seconds since the moment that an element of a list names, by the service's own clock."""
    try:
        moment = datetime.fromisoformat(text_of(element, name)).timestamp()
    except ValueError:
        return None
    return None if answer.date is None else answer.date - moment


def objects_in(answer: HttpAnswer, prefix: str) -> Iterator[StoredObject]:
    """The objects in a page of a list.

    :param prefix: of all names of the storage, which is left out.
    """
    for item in document_of(answer).iter("Contents"):
        size = text_of(item, "Size") or "0"
        if not re.fullmatch("[0-9]{1,18}", size):
            raise Refused(f"a list is wrong: {cut(size, 20)!r} is no size")
        yield StoredObject(
            name=text_of(item, "Key").removeprefix(prefix),
            version=version_of(text_of(item, "ETag")),
            size=int(size),
            checksum="",
            metadata={},
            age=age_in(item, "LastModified", answer),
        )
