"""Verification for operators: images made again, to see whether they come out the same.

``POST /api/verifications`` begins one, and tells how far it is; ``GET`` tells the same, with the
result at its end, for some minutes. What came of the last one is kept with the image.
"""

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from klein import Klein

from nixery.access.api_token import OperatorAccess
from nixery.builds.reproducing import Progress, Reproducer, Request
from nixery.http.answers import BODY_INVALID, NOT_FOUND, RefusedRequest
from nixery.http.operation import Answers, Operation
from nixery.http.request import RegistryRequest, RequestBody, SmallBody
from nixery.http.routes import Route
from nixery.model.image import parse_image
from nixery.model.json_schema import array_of, object_of, schema_of
from nixery.model.reproduction import RepackedLayer, Reproduction
from nixery.model.tags import LATEST
from nixery.web.operators import answer_operator, check_operator, object_in

_WANTED = 'the body must be JSON such as {"name": "git", "tag": "latest", "deep": false}'


_TEXT, _COUNT = {"type": "string"}, {"type": "integer"}
_RESULT = schema_of(
    Reproduction,
    leave_out=["layers"],
    outcome=_TEXT,
    layers=array_of(schema_of(RepackedLayer, outcome=_TEXT)),
)
_STATE = object_of(
    state={"enum": ["running", "done", "failed"]},
    step=_TEXT,
    done=_COUNT,
    total=_COUNT,
    error={"type": ["string", "null"]},
    result={"anyOf": [_RESULT, {"type": "null"}]},
)
_BODY = object_of(name=_TEXT) | {
    "properties": {
        "name": _TEXT,
        "tag": {**_TEXT, "default": LATEST},
        "deep": {"type": "boolean", "default": False},
        "against": {**_TEXT, "description": "the URL of a registry, without credentials"},
    }
}


class VerificationApi:
    """Answers ``/api/verifications``."""

    app = Klein()

    def __init__(self, operators: OperatorAccess, reproducer: Reproducer) -> None:
        self.bodies: Mapping[bytes, Callable[[], RequestBody]] = {b"api": SmallBody}
        self._operators = operators
        self._reproducer = reproducer

    @app.route(
        "/api/verifications",
        endpoint=Route(
            operator=True,
            methods=(b"GET", b"HEAD", b"POST"),
            operations={
                b"GET": Operation(
                    {200: Answers("Its progress, or its result.", _STATE)},
                    "The progress of a verification, and its result for some minutes after its end",
                    {
                        "name": "the image's",
                        "tag": "the image's",
                        "deep": "1 for a verification of all that was built here",
                        "against": "the URL of the other registry that is asked",
                    },
                ),
                b"POST": Operation(
                    {202: Answers("It has begun.", _STATE)},
                    "Rebuild an image and compare it, unless that is already in progress",
                    body=_BODY,
                ),
            },
        ),
    )
    def verifications(self, request: RegistryRequest) -> bytes:
        """Begin a verification, or tell how far it is."""
        check_operator(self._operators, request)
        if request.method == b"POST":
            wanted = _wanted(object_in(request, _WANTED))
            progress: Progress | None = self._reproducer.begin(wanted)
            request.setResponseCode(202)
        else:
            names = ("name", "tag", "against")
            asked: dict[str, Any] = {name: request.parameter(name) for name in names}
            asked["deep"] = request.parameter("deep") == "1"
            progress = self._reproducer.state(_wanted(asked))
        if progress is None:
            raise RefusedRequest(
                NOT_FOUND, "there is no such verification, running or recently ended"
            )
        return answer_operator(request, _shown(progress))


def _wanted(asked: Mapping[str, Any]) -> Request:
    """What is to be verified.

    :raises RefusedRequest: if that is not told.
    :raises NixeryError: if a name or tag is none.
    """
    name, tag = asked.get("name"), asked.get("tag") or LATEST
    deep, against = asked.get("deep", False), asked.get("against") or ""
    if not (isinstance(name, str) and isinstance(tag, str) and isinstance(deep, bool)):
        raise RefusedRequest(BODY_INVALID, _WANTED)
    if not isinstance(against, str) or (against and not _is_url(against)):
        text = "'against' must be the URL of a registry, such as https://HOST, without credentials"
        raise RefusedRequest(BODY_INVALID, text)
    return Request(parse_image(name, tag), deep, against)


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return (
            parts.scheme in ("http", "https")
            and bool(parts.hostname)
            and not (parts.username or parts.password or parts.query or parts.fragment)
            and text.isascii()
            and text.isprintable()
            and " " not in text
            and (parts.port is None or parts.port > 0)
        )
    except ValueError:
        return False


def _shown(progress: Progress) -> dict[str, Any]:
    ended = progress.result is not None or progress.error is not None
    return {
        "state": "running" if not ended else "failed" if progress.error else "done",
        "step": progress.step,
        "done": progress.done,
        "total": progress.total,
        "error": None if progress.error is None else str(progress.error.public()),
        "result": None if progress.result is None else progress.result.document(),
    }
