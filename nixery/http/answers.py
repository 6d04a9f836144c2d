"""Which error becomes which answer: the one table.

What people see of an error depends on their client. docker, podman, skopeo and crane print the
message of every 4xx, and of a 5xx only status and reason phrase; containerd and BuildKit print
status and reason phrase, and of a 404 only "not found". docker words some codes anew: DENIED
becomes "may require 'docker login'", so it is not for builds that fail. podman asks three times
more, and prints each time, unless the code is one of four: DENIED, UNAUTHORIZED, NAME_UNKNOWN,
MANIFEST_UNKNOWN. Hence 4xx for all that would fail again in the same way, with one of the latter
two codes and the precise one in the detail; 503 for what may pass; and cause and address in every
reason phrase.
"""

import re
from typing import Any

import attrs
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.server import Request

from nixery.http.documents import error_document, printable
from nixery.http.request import RegistryRequest, name_of
from nixery.model import errors
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
class Kind:
    """How an error is answered.

    :param code: of https://github.com/opencontainers/distribution-spec/blob/main/spec.md#error-codes
        where it has a fitting one.
    :param precise: the code in the detail; none for the same.
    :param explained: whether people should see why it is a 404: clients that print no more of one
        than that get a 400.
    """

    status: int
    code: str
    precise: str = ""
    explained: bool = False


def _failed(precise: str) -> Kind:
    """There is no image, and will not be one however often it is asked for."""
    return Kind(400, "MANIFEST_UNKNOWN", precise)


TABLE: dict[type[errors.NixeryError], Kind] = {
    errors.NameInvalid: Kind(400, "NAME_INVALID"),
    errors.TagInvalid: Kind(400, "TAG_INVALID"),
    errors.DigestInvalid: Kind(400, "DIGEST_INVALID"),
    errors.RangeInvalid: Kind(416, "RANGE_INVALID"),
    errors.Unauthorized: Kind(401, "UNAUTHORIZED"),
    errors.Denied: Kind(403, "DENIED"),
    errors.TooManyAttempts: Kind(429, "TOOMANYREQUESTS"),
    errors.CommitNotServed: Kind(404, "MANIFEST_UNKNOWN", explained=True),
    errors.TooManyTags: Kind(429, "TOOMANYREQUESTS"),
    errors.UnknownTag: Kind(404, "MANIFEST_UNKNOWN", explained=True),
    errors.TagNotServed: Kind(404, "MANIFEST_UNKNOWN", explained=True),
    errors.ManifestUnknown: Kind(404, "MANIFEST_UNKNOWN"),
    errors.BlobUnknown: Kind(404, "BLOB_UNKNOWN"),
    errors.UnknownPackage: Kind(404, "NAME_UNKNOWN", explained=True),
    errors.NotAPackage: Kind(404, "NAME_UNKNOWN", explained=True),
    errors.SystemUnsupported: Kind(404, "NAME_UNKNOWN", explained=True),
    errors.ImageInvalid: Kind(400, "NAME_UNKNOWN", "NAME_INVALID"),
    errors.PackageUnnameable: Kind(400, "NAME_UNKNOWN", "NAME_INVALID"),
    errors.AmbiguousPackage: Kind(400, "NAME_UNKNOWN", "NAME_INVALID"),
    errors.InterpretersDiffer: Kind(400, "NAME_UNKNOWN", "NAME_INVALID"),
    errors.EvaluationFailed: _failed("EVALUATION_FAILED"),
    errors.BuildFailed: _failed("BUILD_FAILED"),
    errors.BuildTimedOut: _failed("BUILD_TIMED_OUT"),
    errors.ImageTimedOut: _failed("BUILD_TIMED_OUT"),
    errors.MemoryExceeded: _failed("MEMORY_EXCEEDED"),
    errors.ClosureTooLarge: _failed("IMAGE_TOO_LARGE"),
    errors.TooManyFiles: _failed("IMAGE_TOO_LARGE"),
    errors.PackingFailed: Kind(500, "PACKING_FAILED"),
    errors.PackerKilled: Kind(503, "UNAVAILABLE"),
    errors.SourceUnavailable: Kind(503, "UNAVAILABLE"),
    errors.SourceChanged: Kind(503, "UNAVAILABLE"),
    errors.NixUnavailable: Kind(503, "UNAVAILABLE"),
    errors.StorageFull: Kind(503, "UNAVAILABLE"),
    errors.StorageUnavailable: Kind(503, "UNAVAILABLE"),
    errors.ShuttingDown: Kind(503, "UNAVAILABLE"),
    errors.NoRoomToWait: Kind(503, "UNAVAILABLE"),
    errors.QueueFull: Kind(429, "TOOMANYREQUESTS"),
    errors.TooMuchUnread: Kind(503, "UNAVAILABLE"),
}


def answer_error(request: Request, error: errors.NixeryError, see: str | None = None) -> bytes:
    """Answer with what an error says, without paths of this machine; the log has these too.

    :param see: an address where more is to be read of it.
    """
    kind, shown = TABLE[type(error)], error.public()
    if kind.status in (429, 503):
        known = error.seconds if isinstance(error, errors.TooManyAttempts) else RETRY_AFTER
        request.setHeader(b"Retry-After", b"%d" % known)
    if isinstance(error, errors.RangeInvalid):
        request.setHeader(b"Content-Range", b"bytes */%d" % error.size)
    detail = {"code": kind.precise or kind.code, **attrs.asdict(shown)}  # type: ignore[arg-type]
    if kind.explained and _STATUS_LINE_ALONE.search(request.getHeader(b"user-agent") or b""):
        kind = attrs.evolve(kind, status=400)
    body = answer(request, kind, _message(shown, see), detail)
    request.setResponseCode(kind.status, _reason(shown.cause, see))
    if isinstance(request, RegistryRequest):
        request.error_code, request.told = detail["code"], " ".join(error.cause.split())
    return body


def _message(error: errors.NixeryError, see: str | None) -> str:
    """What an error says, with an address before the end of a log that it quotes."""
    cause, text = error.cause, str(error)
    return text if see is None else cause + _joint(cause) + see + text.removeprefix(cause)


def _joint(message: str) -> str:
    """What stands between a message and an address: not right behind the end of a sentence."""
    if "\n" in message:
        return "\nsee "
    return " see " if message.endswith(("?", ".")) else "; see "


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
    request.setResponseCode(kind.status, _reason(message))
    request.setHeader(b"Content-Type", b"application/json")
    request.setHeader(b"Content-Length", b"%d" % len(body))
    return body


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
