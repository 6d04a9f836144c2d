"""Which error becomes which answer: the one table.

What people see of an error depends on their client. docker, podman, skopeo and crane print the
message of every 4xx, and of a 5xx only status and reason phrase; containerd prints status and
reason phrase, and of a 404 only "not found". docker words some codes anew: DENIED becomes "may
require 'docker login'", so it is not for builds that fail. Hence 4xx for all that would fail
again in the same way, 503 for what may pass, and a short cause in every reason phrase.
"""

from typing import Any

import attrs
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.server import Request

from nixery.model import errors
from nixery.web.documents import error_document, printable
from nixery.web.request import RegistryRequest, name_of

_log = Logger()

RETRY_AFTER = 10
"""Seconds after which what was unavailable may be asked for again."""

_REASON_LENGTH = 160


@attrs.frozen
class Kind:
    """How an error is answered.

    :param code: of https://github.com/opencontainers/distribution-spec/blob/main/spec.md#error-codes
        where it has a fitting one.
    """

    status: int
    code: str


TABLE: dict[type[errors.NixeryError], Kind] = {
    errors.NameInvalid: Kind(400, "NAME_INVALID"),
    errors.TagInvalid: Kind(400, "TAG_INVALID"),
    errors.DigestInvalid: Kind(400, "DIGEST_INVALID"),
    errors.RangeInvalid: Kind(416, "RANGE_INVALID"),
    errors.Unauthorized: Kind(401, "UNAUTHORIZED"),
    errors.Denied: Kind(403, "DENIED"),
    errors.TooManyAttempts: Kind(429, "TOOMANYREQUESTS"),
    errors.UnknownTag: Kind(404, "MANIFEST_UNKNOWN"),
    errors.TagNotServed: Kind(404, "MANIFEST_UNKNOWN"),
    errors.ManifestUnknown: Kind(404, "MANIFEST_UNKNOWN"),
    errors.BlobUnknown: Kind(404, "BLOB_UNKNOWN"),
    errors.UnknownPackage: Kind(404, "NAME_UNKNOWN"),
    errors.NotAPackage: Kind(404, "NAME_UNKNOWN"),
    errors.SystemUnsupported: Kind(404, "NAME_UNKNOWN"),
    errors.AmbiguousPackage: Kind(400, "NAME_INVALID"),
    errors.EvaluationFailed: Kind(400, "EVALUATION_FAILED"),
    errors.BuildFailed: Kind(400, "BUILD_FAILED"),
    errors.BuildTimedOut: Kind(400, "BUILD_TIMED_OUT"),
    errors.ImageTimedOut: Kind(400, "BUILD_TIMED_OUT"),
    errors.MemoryExceeded: Kind(400, "MEMORY_EXCEEDED"),
    errors.ClosureTooLarge: Kind(400, "IMAGE_TOO_LARGE"),
    errors.TooManyFiles: Kind(400, "IMAGE_TOO_LARGE"),
    errors.PackingFailed: Kind(500, "PACKING_FAILED"),
    errors.PackerKilled: Kind(503, "UNAVAILABLE"),
    errors.SourceUnavailable: Kind(503, "UNAVAILABLE"),
    errors.SourceChanged: Kind(503, "UNAVAILABLE"),
    errors.NixUnavailable: Kind(503, "UNAVAILABLE"),
    errors.StorageFull: Kind(503, "UNAVAILABLE"),
    errors.StorageUnavailable: Kind(503, "UNAVAILABLE"),
    errors.ShuttingDown: Kind(503, "UNAVAILABLE"),
    errors.QueueFull: Kind(429, "TOOMANYREQUESTS"),
    errors.TooMuchUnread: Kind(503, "UNAVAILABLE"),
}


def answer_error(request: Request, error: errors.NixeryError, see: str | None = None) -> bytes:
    """Answer with what an error says.

    :param see: an address where more is to be read of it.
    """
    kind = TABLE[type(error)]
    if kind.status in (429, 503):
        request.setHeader(b"Retry-After", b"%d" % RETRY_AFTER)
    if isinstance(error, errors.RangeInvalid):
        request.setHeader(b"Content-Range", b"bytes */%d" % error.size)
    message = str(error)
    if see is not None:
        # On a line of its own where there are several; not right behind a question.
        message += "\n" if "\n" in message else " " if message.endswith("?") else "; "
        message += f"see {see}"
    return answer(request, kind, message, attrs.asdict(error))  # type: ignore[arg-type]


def log_fault(request: Request, failure: Failure) -> None:
    """Log what nobody expected, with what the answer says that the request is called."""
    text = "{request}: while answering {path}"
    _log.failure(text, failure, request=name_of(request), path=request.path)


def answer(request: Request, kind: Kind, message: str, detail: Any = None) -> bytes:
    """Answer with the registry's error document.

    :param message: for people; control characters are taken out of it.
    :param detail: for programs; anything JSON can hold.
    :return: the body; what the client sees has it whatever the method.
    """
    if isinstance(request, RegistryRequest):
        request.error_code, request.told = kind.code, message.split("\n")[0]
    body = error_document(kind.code, message, detail)
    request.setResponseCode(kind.status, _reason(printable(message)))
    request.setHeader(b"Content-Type", b"application/json")
    request.setHeader(b"Content-Length", b"%d" % len(body))
    return body


def _reason(message: str) -> bytes:
    """The first line of a message, as a reason phrase can hold it."""
    line = message.split("\n", 1)[0].replace("\t", " ")
    return line.encode("ascii", "replace")[:_REASON_LENGTH]
