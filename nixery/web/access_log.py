"""Every request, once it is answered: counted, and pulls logged."""

import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol
from urllib.parse import quote

import attrs
from twisted.logger import LogLevel, globalLogPublisher

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
_LINE = (
    "{{request}} {method} {image} for {user}{{client}}: {outcome}, {status} after "
    "{{milliseconds:.1f}} ms{by}{why}"
)
"""Makes the format of a pull's line, with what is the same each time an answer is given."""
_TRACE_CONTEXT = ("traceparent", "tracestate")
"""Headers by which clients name the trace that a pull belongs to: https://www.w3.org/TR/trace-context/"""
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


OnManifest = Callable[[str, str, bool], object]
"""Takes the digest of an image's manifest that was sent, the tag by which it was asked for if it
was, and whether it was sent, not only its head: clients look by ``HEAD`` whether they have it
already."""


def ignore_manifest(digest: str, tag: str, whole: bool) -> None:
    """Take no note of a manifest that was sent."""


class NoMeter:
    """Counts nothing."""

    def pulled(self, by: str, outcome: str) -> None:
        """Take no note."""

    def answered(self, kind: str, status: int, sent: int, seconds: float) -> None:
        """Take no note."""


class ITraced(Protocol):
    """Makes spans of pulls: see :class:`nixery.watching.traces.Traces`."""

    def begin(self, id: str, name: str, reference: str, headers: Mapping[str, str]) -> None:
        """A pull's request for a manifest begins."""

    def end(self, id: str, status: int, outcome: str, build: str) -> None:
        """It was answered, or its client has left."""


@attrs.frozen
class AnswerFacts:
    """All there is to note of an answer, but for what differs when it is given again.

    :param kind: of the request: see :class:`nixery.http.routes.Route`.
    :param sent: bytes of the body.
    :param by: ``tag`` or ``digest``, if it is the answer to a pull.
    :param pull: the event of its line, then, but for what differs.
    :param manifest: what there is to tell an :data:`OnManifest` of an image's that was sent, if so.
    """

    kind: str
    status: int
    sent: int
    by: str
    pull: dict[str, Any] | None
    manifest: tuple[str, str, bool] | None = None

    def unsent(self) -> "AnswerFacts":
        """Those of the same request, if its client leaves before the answer."""
        pull = self.pull and _line({**self.pull, "outcome": "left", "status": _LEFT})
        return attrs.evolve(self, status=_LEFT, sent=0, pull=pull, manifest=None)


@attrs.frozen
class AccessLog:
    """Takes note of requests: nothing that it logs comes unescaped from a client.

    :param on_manifest: is told of each manifest of an image that was sent.
    :param traces: none if no traces are made.
    """

    meter: IMeter
    on_manifest: OnManifest = ignore_manifest
    traces: ITraced | None = None

    def begin(self, request: RegistryRequest) -> None:
        """A request begins whose answer is not known as a whole."""
        if self.traces is not None and request.route.kind == "manifest":
            told = {name: request.header(name.encode("ascii")) for name in _TRACE_CONTEXT}
            name, reference = (request.variables[each] for each in ("name", "reference"))
            self.traces.begin(request.id, name, reference, told)

    def facts(self, request: RegistryRequest, left: bool) -> AnswerFacts:
        """The facts of an answer.

        :param left: whether the client left before it, or amid it.
        """
        status = _LEFT if left and not request.startedWriting else request.code
        kind, by, pull, manifest = request.route.kind, "", None, None
        if kind == "manifest":
            pull = _pull(request, "left" if left else _outcome(request), status)
            reference = request.variables["reference"]
            by = "digest" if ":" in reference else "tag"
            digest = request.responseHeaders.getRawHeaders(b"docker-content-digest")
            # What is attached to an image is a manifest as well, but has no revision.
            of_image = request.responseHeaders.hasHeader(b"nixery-revision")
            if status == 200 and digest and of_image and not left:
                tag = reference if by == "tag" else ""
                manifest = digest[0].decode("ascii"), tag, request.method == b"GET"
        return AnswerFacts(kind, status, request.sentLength, by, pull, manifest)

    def note(
        self, facts: AnswerFacts, id: str, sender: str, seconds: float, unsent: bool = False
    ) -> None:
        """A request was answered, or its client has left.

        :param id: the request's.
        :param sender: the client's address.
        :param unsent: whether the client left before the answer that the facts are of.
        """
        if unsent:
            facts = facts.unsent()
        self.meter.answered(facts.kind, facts.status, facts.sent, seconds)
        if (pull := facts.pull) is not None:
            self.meter.pulled(facts.by, pull["outcome"])
            if self.traces is not None:
                self.traces.end(id, facts.status, pull["outcome"], pull["build"])
            # A Logger would make all of the event anew each time, for a tenth of an answer's cost.
            globalLogPublisher(
                {
                    **pull,
                    "log_time": time.time(),
                    "request": id,
                    "client": sender,
                    "milliseconds": seconds * 1000,
                }
            )
        if facts.manifest is not None:
            self.on_manifest(*facts.manifest)


def _pull(request: RegistryRequest, outcome: str, status: int) -> dict[str, Any]:
    """The event of the line of a pull; what differs each time is yet to be filled in."""
    # As in an address: with spaces, a name could pass for the rest of the line.
    names = (request.variables[each] for each in ("name", "reference"))
    name, reference = (quote(each, safe=_IN_PATHS) for each in names)
    fields = {
        "request": "",
        "method": request.method.decode("ascii", "replace"),
        "image": f"{name}{'@' if ':' in request.variables['reference'] else ':'}{reference}",
        "client": "",
        "user": f"{readable(request.who.name)} at " if request.who.name else "",
        "outcome": outcome,
        "status": status,
        "milliseconds": 0.0,
        "build": request.build,
        "by": f", build {request.build}" if request.build else "",
        "why": f": {readable(request.told)}" if request.told else "",
    }
    return _line(fields)


def _line(fields: dict[str, Any]) -> dict[str, Any]:
    """The event of a line with some fields."""
    escaped = {
        name: value.replace("{", "{{").replace("}", "}}") if isinstance(value, str) else value
        for name, value in fields.items()
    }
    return {
        **fields,
        "log_later": True,
        "log_level": LogLevel.info,
        "log_namespace": f"{__name__}.{AccessLog.__name__}",
        "log_format": _LINE.format_map(escaped),
    }


def _outcome(request: RegistryRequest) -> str:
    status = request.code
    if status < 300 or status == 304:
        return "made" if request.build else "known"
    if status == 400 and request.error_code.endswith("_UNKNOWN"):
        return _OUTCOMES[404]  # for a client that prints nothing of a 404
    if status == 400:
        return "invalid" if request.error_code in _NOT_UNDERSTOOD else "failed"
    return _OUTCOMES.get(status, "invalid")
