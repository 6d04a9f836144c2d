"""What machines ask to know how the daemon is: health, readiness, metrics."""

import json
from collections.abc import Sequence

import attrs
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from twisted.internet.interfaces import IReactorTime
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from nixery.http.bounded import BoundedSite
from nixery.http.bounds import Bounds
from nixery.model.limits import HttpLimits
from nixery.watching.readiness import Condition, Readiness

PROBES = (b"/healthz", b"/readyz")
METRICS = b"/metrics"
MOST_CONNECTIONS = 100
"""At an endpoint of their own; who is idle longest makes room for the next."""
_ALLOWED = (b"GET", b"HEAD")


class Operations(Resource):
    """Answers ``/healthz``, ``/readyz`` and ``/metrics``."""

    isLeaf = True

    def __init__(
        self, readiness: Readiness, registry: CollectorRegistry, private: bool = False
    ) -> None:
        """
        :param private: whether operators alone can ask, so that they are told paths too.
        """
        super().__init__()  # type: ignore[no-untyped-call]
        self._private = private
        self._readiness = readiness
        self._registry = registry

    def render(self, request: Request) -> bytes | int:
        """Answer a request, or say that there is nothing."""
        request.setHeader(b"Server", b"nixery")
        request.setHeader(b"Cache-Control", b"no-store")
        if request.method not in _ALLOWED:
            request.setHeader(b"Allow", b", ".join(_ALLOWED))
            return _text(request, 405, "there is nothing to write here\n")
        match request.path:
            case b"/healthz":
                return _text(request, 200, "ok\n")
            case b"/readyz":
                return self._ready(request)
            case b"/metrics":
                return self._metrics(request)
            case _:
                return _text(request, 404, "there are /healthz, /readyz and /metrics here\n")

    def _ready(self, request: Request) -> int:
        def tell(conditions: list[Condition]) -> None:
            if left:
                return
            remarks = [each.remark if self._private else each.told for each in conditions]
            request.write(_readiness(request, conditions, remarks))
            request.finish()

        left: list[object] = []
        request.notifyFinish().addErrback(left.append)
        self._readiness.look().addCallback(tell)
        return NOT_DONE_YET

    def _metrics(self, request: Request) -> bytes:
        try:
            encode, media_type = choose_encoder(_accepted(request))
        except (TypeError, ValueError):  # it trips over versions that are no numbers
            encode, media_type = choose_encoder("")
        body: bytes = encode(self._registry)
        return _body(request, 200, media_type, body)


class OperationsSite(BoundedSite):
    """The same at an endpoint of its own."""

    def __init__(self, operations: Operations, reactor: IReactorTime, limits: HttpLimits) -> None:
        """
        :param limits: those of the other endpoint; there are fewer connections here.
        """
        most = min(MOST_CONNECTIONS, limits.connections)
        limits = attrs.evolve(limits, connections=most, client_connections=most)
        super().__init__(operations, reactor, Bounds(limits))


def _readiness(request: Request, conditions: Sequence[Condition], remarks: Sequence[str]) -> bytes:
    """Tell how everything is, with a remark about each."""
    status = 200 if all(condition.ok for condition in conditions) else 503
    if "application/json" in _accepted(request):
        checks = {
            each.name: {"ok": each.ok, "remark": remark}
            for each, remark in zip(conditions, remarks, strict=True)
        }
        body = json.dumps({"ready": status == 200, "checks": checks}).encode("ascii")
        return _body(request, status, "application/json", body)
    lines = [
        f"{each.name}: {'ok' if each.ok else 'not ok'}{', ' * bool(remark)}{remark}\n"
        for each, remark in zip(conditions, remarks, strict=True)
    ]
    return _text(request, status, "".join(lines))


def _accepted(request: Request) -> str:
    return (request.getHeader(b"accept") or b"").decode("latin-1")


def _text(request: Request, status: int, text: str) -> bytes:
    return _body(request, status, "text/plain; charset=utf-8", text.encode("utf-8", "replace"))


def _body(request: Request, status: int, media_type: str, body: bytes) -> bytes:
    request.setResponseCode(status)
    request.setHeader(b"Content-Type", media_type.encode("ascii"))
    request.setHeader(b"Content-Length", b"%d" % len(body))
    return body
