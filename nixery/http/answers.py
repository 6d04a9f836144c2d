"""The table of errors: the answer to each, and the registry's error document.

What people see of an error depends on their client. docker, podman, skopeo and crane print the
message of every 4xx, and of a 5xx only status and reason phrase; containerd and BuildKit print
status and reason phrase, and of a 404 only "not found". docker words some codes anew: DENIED
becomes "may require 'docker login'", so it is not for builds that fail. podman asks three times
more, and prints each time, unless the code is one of four: DENIED, UNAUTHORIZED, NAME_UNKNOWN,
MANIFEST_UNKNOWN. Hence 4xx for all that would fail again in the same way, with one of the latter
two codes and the precise one in the detail; 503 for what may pass; and cause and address in every
reason phrase.
"""

import json
import re
from typing import Any

import attrs
from twisted.logger import Logger
from twisted.python.failure import Failure

from nixery.http.request import RegistryRequest
from nixery.model.build_errors import (
    BuildFailed,
    BuildTimedOut,
    ClosureTooLarge,
    ImageTimedOut,
    MemoryExceeded,
    PackerKilled,
    PackingFailed,
    TooManyFiles,
)
from nixery.model.errors import NixeryError
from nixery.model.package_errors import (
    AmbiguousPackage,
    EvaluationFailed,
    InterpretersDiffer,
    NotAPackage,
    PackageUnnameable,
    SystemUnsupported,
    UnknownPackage,
)
from nixery.model.request_errors import (
    BlobUnknown,
    CommitNotServed,
    Denied,
    DigestInvalid,
    ImageInvalid,
    ManifestUnknown,
    NameInvalid,
    RangeInvalid,
    TagInvalid,
    TagNotServed,
    TooManyAttempts,
    TooManyTags,
    Unauthorized,
    UnknownTag,
)
from nixery.model.service_errors import (
    NixUnavailable,
    NoRoomToWait,
    OtherRegistryUnavailable,
    QueueFull,
    ShuttingDown,
    SourceChanged,
    SourceUnavailable,
    StorageFull,
    StorageUnavailable,
    TooMuchUnread,
)
from nixery.model.text import cut

_log = Logger()

RETRY_AFTER = 10
"""Seconds after which what was unavailable may be asked for again."""

_REASON_LENGTH = 400
"""Bytes of a reason phrase: both hashes of a mismatch fit, and proxies take lines of 4 KiB."""
_ASCII = str.maketrans({"‘": "'", "’": "'", "“": '"', "”": '"', "…": "...", "–": "-"})
# Docker with its containerd image store says that it is a containerd-client too.
_STATUS_LINE_ALONE = re.compile(rb"\b(?:containerd(?:-client)?|buildkit)/")


@attrs.frozen
class ErrorKind:
    """The form of the answer to an error.

    :param code: of https://github.com/opencontainers/distribution-spec/blob/main/spec.md#error-codes
        where it has a fitting one.
    :param precise: the code in the detail; empty for the same.
    :param explained: whether people should see the reason of a 404: clients that print only the
        status of a 404 get a 400.
    """

    status: int
    code: str
    precise: str = ""
    explained: bool = False


def _failed(precise: str) -> ErrorKind:
    """There is no image, and asking again won't change that."""
    return ErrorKind(400, "MANIFEST_UNKNOWN", precise)


TABLE: dict[type[NixeryError], ErrorKind] = {
    NameInvalid: ErrorKind(400, "NAME_INVALID"),
    TagInvalid: ErrorKind(400, "TAG_INVALID"),
    DigestInvalid: ErrorKind(400, "DIGEST_INVALID"),
    RangeInvalid: ErrorKind(416, "RANGE_INVALID"),
    Unauthorized: ErrorKind(401, "UNAUTHORIZED"),
    Denied: ErrorKind(403, "DENIED"),
    TooManyAttempts: ErrorKind(429, "TOOMANYREQUESTS"),
    CommitNotServed: ErrorKind(404, "MANIFEST_UNKNOWN", explained=True),
    TooManyTags: ErrorKind(429, "TOOMANYREQUESTS"),
    UnknownTag: ErrorKind(404, "MANIFEST_UNKNOWN", explained=True),
    TagNotServed: ErrorKind(404, "MANIFEST_UNKNOWN", explained=True),
    ManifestUnknown: ErrorKind(404, "MANIFEST_UNKNOWN"),
    BlobUnknown: ErrorKind(404, "BLOB_UNKNOWN"),
    UnknownPackage: ErrorKind(404, "NAME_UNKNOWN", explained=True),
    NotAPackage: ErrorKind(404, "NAME_UNKNOWN", explained=True),
    SystemUnsupported: ErrorKind(404, "NAME_UNKNOWN", explained=True),
    ImageInvalid: ErrorKind(400, "NAME_UNKNOWN", "NAME_INVALID"),
    PackageUnnameable: ErrorKind(400, "NAME_UNKNOWN", "NAME_INVALID"),
    AmbiguousPackage: ErrorKind(400, "NAME_UNKNOWN", "NAME_INVALID"),
    InterpretersDiffer: ErrorKind(400, "NAME_UNKNOWN", "NAME_INVALID"),
    EvaluationFailed: _failed("EVALUATION_FAILED"),
    BuildFailed: _failed("BUILD_FAILED"),
    BuildTimedOut: _failed("BUILD_TIMED_OUT"),
    ImageTimedOut: _failed("BUILD_TIMED_OUT"),
    MemoryExceeded: _failed("MEMORY_EXCEEDED"),
    ClosureTooLarge: _failed("IMAGE_TOO_LARGE"),
    TooManyFiles: _failed("IMAGE_TOO_LARGE"),
    PackingFailed: ErrorKind(500, "PACKING_FAILED"),
    PackerKilled: ErrorKind(503, "UNAVAILABLE"),
    SourceUnavailable: ErrorKind(503, "UNAVAILABLE"),
    SourceChanged: ErrorKind(503, "UNAVAILABLE"),
    OtherRegistryUnavailable: ErrorKind(503, "UNAVAILABLE"),
    NixUnavailable: ErrorKind(503, "UNAVAILABLE"),
    StorageFull: ErrorKind(503, "UNAVAILABLE"),
    StorageUnavailable: ErrorKind(503, "UNAVAILABLE"),
    ShuttingDown: ErrorKind(503, "UNAVAILABLE"),
    NoRoomToWait: ErrorKind(503, "UNAVAILABLE"),
    QueueFull: ErrorKind(429, "TOOMANYREQUESTS"),
    TooMuchUnread: ErrorKind(503, "UNAVAILABLE"),
}


@attrs.frozen
class RefusedRequest(Exception):
    """A request that gets an error for a reason of HTTP alone.

    :param message: for people, in the error document.
    :param retry_after: seconds after which it may be asked again.
    :param page: title and text of a page that says the same.
    """

    kind: ErrorKind
    message: str
    retry_after: int | None = None
    page: tuple[str, str] = (
        "There is nothing at this address",
        "See the start page for what is served.",
    )


NOT_FOUND = ErrorKind(404, "NOT_FOUND")
QUERY_INVALID = ErrorKind(400, "QUERY_INVALID")
UNKNOWN = ErrorKind(500, "UNKNOWN")
UNSUPPORTED = ErrorKind(400, "UNSUPPORTED")
QUERY_INVALID = ErrorKind(400, "QUERY_INVALID")
BODY_INVALID = ErrorKind(400, "BODY_INVALID")
TOO_MANY = ErrorKind(429, "TOOMANYREQUESTS")
LOGGED = "internal error; the registry's log has the details"


def answer_error(request: RegistryRequest, error: NixeryError, see: str | None = None) -> bytes:
    """Answer with an error's message, without paths of this machine; the log has these too.

    :param see: the URL of a page with more about it.
    """
    kind, shown = TABLE[type(error)], error.public()
    if kind.status in (429, 503):
        known = error.seconds if isinstance(error, TooManyAttempts) else RETRY_AFTER
        request.setHeader(b"Retry-After", b"%d" % known)
    if isinstance(error, RangeInvalid):
        request.setHeader(b"Content-Range", b"bytes */%d" % error.size)
    detail = {"code": kind.precise or kind.code, **attrs.asdict(shown)}  # type: ignore[arg-type]
    if kind.explained and _STATUS_LINE_ALONE.search(request.getHeader(b"user-agent") or b""):
        kind = attrs.evolve(kind, status=400)
    body = answer(request, kind, _message(shown, see), detail)
    request.setResponseCode(kind.status, _reason(shown.cause, see))
    request.error_code, request.told = detail["code"], " ".join(error.cause.split())
    return body


def answer_refused(request: RegistryRequest, refused: RefusedRequest) -> bytes:
    """Answer with the error document of a refusal."""
    if refused.retry_after is not None:
        request.setHeader(b"Retry-After", b"%d" % refused.retry_after)
    return answer(request, refused.kind, refused.message)


def _message(error: NixeryError, see: str | None) -> str:
    """An error's message, with an address before the end of a log that it quotes."""
    cause, text = error.cause, str(error)
    return text if see is None else cause + _joint(cause) + see + text.removeprefix(cause)


def _joint(message: str) -> str:
    """The words between a message and an address."""
    if "\n" in message:
        return "\nsee "
    return " see " if message.endswith(("?", ".")) else "; see "


def log_fault(request: RegistryRequest) -> None:
    """Log the exception that is being handled, with the ID that the answer has."""
    text = "{request}: while answering {path}"
    _log.failure(text, Failure(), request=request.id, path=request.path)


def answer(request: RegistryRequest, kind: ErrorKind, message: str, detail: Any = None) -> bytes:
    """Answer with the registry's error document.

    :param message: for people; control characters are taken out of it.
    :param detail: for programs; anything JSON can hold.
    :return: the body, even if the method is HEAD.
    """
    request.error_code, request.told = kind.code, message.split("\n")[0]
    request.setResponseCode(kind.status, _reason(message))
    return describe(request, "application/json", error_document(kind.code, message, detail))


def redirect(request: RegistryRequest, location: bytes) -> bytes:
    """Send a client elsewhere, to ask the same there.

    :return: the body: none.
    """
    request.setResponseCode(307)
    request.setHeader(b"Location", location)
    request.setHeader(b"Content-Length", b"0")
    return b""


def describe(request: RegistryRequest, media_type: str, body: bytes) -> bytes:
    """Set the headers that say what a body is.

    :return: the body.
    """
    request.setHeader(b"Content-Type", media_type.encode("ascii"))
    request.setHeader(b"Content-Length", b"%d" % len(body))
    return body


def describe_json(request: RegistryRequest, document: Any) -> bytes:
    """Write a document as JSON, and set the headers that say what it is.

    :return: the body.
    """
    return describe(request, "application/json", json.dumps(document).encode("ascii"))


def error_document(code: str, message: str, detail: Any = None) -> bytes:
    """The registry's error document.

    Clients print the detail as well (crane does), so it holds nothing that a terminal would obey.
    """
    error = {"code": code, "message": printable(message), "detail": _printable_within(detail)}
    return json.dumps({"errors": [error]}).encode("ascii")


def printable(text: str) -> str:
    """A text without what a terminal would obey: line ends and tabs stay."""
    return "".join(
        c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text
    )


def _printable_within(detail: Any) -> Any:
    match detail:
        case str():
            return printable(detail)
        case dict():
            return {name: _printable_within(value) for name, value in detail.items()}
        case list() | tuple():
            return [_printable_within(value) for value in detail]
        case _:
            return detail


def _reason(cause: str, see: str | None = None) -> bytes:
    """A cause in one line, as a reason phrase can hold it, and the whole of an address."""
    line = " ".join(printable(cause).split())
    end = "" if see is None else _joint(line) + see
    room = _REASON_LENGTH - len(end)
    # A mark takes three characters here.
    text = line.translate(_ASCII).encode("ascii", "replace").decode("ascii")
    if len(text) > room:
        text = cut(text, max(1, room - 2))
    return (text.translate(_ASCII) + end).encode("ascii", "replace")
