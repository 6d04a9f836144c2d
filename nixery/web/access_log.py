"""Every request, when it is answered: counted, and pulls told to the log."""

import re
from typing import Protocol

import attrs
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.web.server import Request

from nixery.http.request import RegistryRequest, client_of
from nixery.model.text import readable

_MANIFEST = re.compile(rb"/v2/(.+)/manifests/([^/]+)")
_KINDS = (
    ("manifest", _MANIFEST),
    ("blob", re.compile(rb"/v2/.+/blobs/[^/]+")),
    ("registry", re.compile(rb"/v2(/.*)?")),
    ("operations", re.compile(rb"/(healthz|readyz|metrics)")),
)
_OUTCOMES = {
    307: "held",
    401: "refused",
    403: "refused",
    404: "not found",
    429: "busy",
    500: "error",
    503: "unavailable",
}
_LEFT = 499
"""What is counted for an answer that nobody waited for; other servers have the same number."""
# The registry's specifications have no codes for what can go wrong while an image is made.
_NOT_UNDERSTOOD = ("NAME_INVALID", "TAG_INVALID", "DIGEST_INVALID", "UNSUPPORTED")


class IMeter(Protocol):
    """Takes what happened."""

    def pulled(self, by: str, outcome: str) -> None:
        """A manifest was asked for, by ``tag`` or ``digest``."""

    def answered(self, kind: str, status: int, sent: int, seconds: float) -> None:
        """A request was answered, with so many bytes."""


class NoMeter:
    """Counts nothing."""

    def pulled(self, by: str, outcome: str) -> None:
        """Take no note."""

    def answered(self, kind: str, status: int, sent: int, seconds: float) -> None:
        """Take no note."""


@attrs.frozen
class Tally:
    """Takes note of requests: none of what it tells comes unescaped from a client."""

    clock: IReactorTime
    meter: IMeter
    _log = Logger()

    def begin(self, request: Request) -> None:
        """A request is to be answered."""
        began = self.clock.seconds()
        assert isinstance(request, RegistryRequest)
        finished = request.notifyFinish()
        finished.addCallbacks(
            lambda _: self._end(request, began, left=False),
            lambda _: self._end(request, began, left=True),
        )

    def _end(self, request: RegistryRequest, began: float, left: bool) -> None:
        """It was answered, or the client has left before it was, or amid the answer."""
        seconds = self.clock.seconds() - began
        status = _LEFT if left and not request.startedWriting else request.code
        kind = next((name for name, form in _KINDS if form.fullmatch(request.path)), "page")
        self.meter.answered(kind, status, request.sentLength, seconds)
        if (match := _MANIFEST.fullmatch(request.path)) is not None:
            by = "digest" if b":" in match[2] else "tag"
            outcome = "left" if left else _outcome(request)
            self.meter.pulled(by, outcome)
            self._tell(request, match, outcome, status, seconds)

    def _tell(
        self,
        request: RegistryRequest,
        match: re.Match[bytes],
        outcome: str,
        status: int,
        seconds: float,
    ) -> None:
        name, reference = (readable(part.decode("utf-8", "replace")) for part in match.groups())
        separator = "@" if ":" in reference else ":"
        self._log.info(
            "{request} {method} {image} for {user}{client}: {outcome}, {status} after "
            "{milliseconds:.1f} ms{by}{why}",
            request=request.id,
            method=request.method.decode("ascii", "replace"),
            image=f"{name}{separator}{reference}",
            client=client_of(request),
            user=f"{readable(request.who.name)} at " if request.who.name else "",
            outcome=outcome,
            status=status,
            milliseconds=seconds * 1000,
            build=request.build,
            by=f", build {request.build}" if request.build else "",
            why=f": {readable(request.told)}" if request.told else "",
        )


def _outcome(request: RegistryRequest) -> str:
    status = request.code
    if status < 300 or status == 304:
        return "made" if request.build else "known"
    if status == 400 and request.error_code.endswith("_UNKNOWN"):
        return _OUTCOMES[404]  # for a client that prints nothing of a 404
    if status == 400:
        return "invalid" if request.error_code in _NOT_UNDERSTOOD else "failed"
    return _OUTCOMES.get(status, "invalid")
