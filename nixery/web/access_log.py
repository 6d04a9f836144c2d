"""Every request, once it is answered: counted, and pulls logged."""

from typing import Protocol
from urllib.parse import quote

import attrs
from twisted.logger import Logger

from nixery.http.request import RegistryRequest
from nixery.model.text import readable

_OUTCOMES = {
    307: "held",
    401: "refused",
    403: "refused",
    404: "not found",
    429: "busy",
    500: "error",
    503: "unavailable",
}
_IN_PATHS = "/:@!$&'()*+,;="
_LEFT = 499
"""The status that is counted if the client left before its answer, as by other servers."""
# The registry's specifications have no codes for what can go wrong while an image is made.
_NOT_UNDERSTOOD = ("NAME_INVALID", "TAG_INVALID", "DIGEST_INVALID", "UNSUPPORTED")


class IMeter(Protocol):
    """Counts requests."""

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
class AccessLog:
    """Takes note of requests: nothing that it logs comes unescaped from a client."""

    meter: IMeter
    _log = Logger()

    def note(self, request: RegistryRequest, seconds: float, left: bool) -> None:
        """A request was answered, or its client has left before it was, or amid the answer."""
        status = _LEFT if left and not request.startedWriting else request.code
        kind = request.route.kind
        self.meter.answered(kind, status, request.sentLength, seconds)
        if kind == "manifest":
            outcome = "left" if left else _outcome(request)
            by_digest = ":" in request.variables["reference"]
            self.meter.pulled("digest" if by_digest else "tag", outcome)
            self._tell(request, "@" if by_digest else ":", outcome, status, seconds)

    def _tell(
        self, request: RegistryRequest, separator: str, outcome: str, status: int, seconds: float
    ) -> None:
        # As in an address: with spaces, a name could pass for the rest of the line.
        names = (request.variables[each] for each in ("name", "reference"))
        name, reference = (quote(each, safe=_IN_PATHS) for each in names)
        self._log.info(
            "{request} {method} {image} for {user}{client}: {outcome}, {status} after "
            "{milliseconds:.1f} ms{by}{why}",
            request=request.id,
            method=request.method.decode("ascii", "replace"),
            image=f"{name}{separator}{reference}",
            client=request.sender,
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
