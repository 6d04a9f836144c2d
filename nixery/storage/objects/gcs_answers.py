"""Answers of Google Cloud Storage, and what they mean."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from nixery.storage.objects.http_client import HttpAnswer
from nixery.storage.objects.object_store import (
    PassingFault,
    PreconditionFailed,
    Refused,
    StoredObject,
)

_FULL = ("quotaExceeded", "storageQuotaExceeded", "insufficientStorage")


def document_of(answer: HttpAnswer) -> Mapping[str, Any]:
    """The JSON object in an answer, if there is one; one that is cut short is no answer."""
    if not answer.header("Content-Type").startswith("application/json") or not answer.content:
        return {}
    try:
        found = json.loads(answer.content)
    except ValueError:
        raise PassingFault("the answer was cut short") from None
    return found if isinstance(found, dict) else {}


def object_of(answer: HttpAnswer, document: Mapping[str, Any] | None = None) -> StoredObject:
    """The object that an answer, or a document in it, describes.

    :raises PreconditionFailed: if the answer is that another version is there.
    """
    if answer.status == 412:
        raise PreconditionFailed
    found, now = document_of(answer) if document is None else document, answer.date
    try:
        updated = datetime.fromisoformat(found["updated"]).timestamp()
        return StoredObject(
            name=str(found["name"]),
            version=str(int(found["generation"])),
            size=int(found["size"]),
            checksum=str(found["crc32c"]),
            metadata=dict(found.get("metadata") or {}),
            age=None if now is None else now - updated,
        )
    except (KeyError, ValueError, TypeError) as error:
        raise Refused(f"an object's description is wrong or lacks {error}") from error


def is_there(answer: HttpAnswer) -> bool:
    """Whether an object is there; a bucket that is not is another thing."""
    if answer.status == 404 and "bucket does not exist" in (why := reason_of(answer)):
        raise Refused(why)
    return answer.status == 200


def _error(answer: HttpAnswer) -> Mapping[str, Any]:
    error = document_of(answer).get("error")
    return error if isinstance(error, dict) else {}


def reason_of(answer: HttpAnswer) -> str:
    """The fault, in the service's words."""
    message = _error(answer).get("message")
    return answer.reason(message if isinstance(message, str) else None)


def is_full(answer: HttpAnswer) -> bool:
    """Whether there is no room."""
    reasons = [f.get("reason") for f in _error(answer).get("errors") or () if isinstance(f, dict)]
    return answer.status == 507 or (
        answer.status in (403, 413, 429) and any(reason in _FULL for reason in reasons)
    )
