"""Health, readiness and metrics, for machines that watch the daemon."""

from collections.abc import Sequence

import attrs
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from twisted.internet.interfaces import IReactorTime

from nixery.http.answers import describe, describe_json
from nixery.http.bounded_site import AnsweringResource, BoundedSite
from nixery.http.bounds import Bounds
from nixery.http.request import RegistryRequest
from nixery.model.limits import HttpLimits
from nixery.watching.readiness import Condition, Readiness

MOST_CONNECTIONS = 100
"""Connections at an endpoint of their own; the one that is idle longest makes room for the next."""
_ALLOWED = (b"GET", b"HEAD")


class Operations:
    """Answers ``/healthz``, ``/readyz`` and ``/metrics``."""

    def __init__(
        self, readiness: Readiness, registry: CollectorRegistry, private: bool = False
    ) -> None:
        """
        :param private: whether operators alone can ask, so that they are told paths too.
        """
        self._private = private
        self._readiness = readiness
        self._registry = registry

    async def answer(self, request: RegistryRequest) -> bytes:
        """Answer a request for one of them, or for something that is not there."""
        request.setHeader(b"Cache-Control", b"no-store")
        if request.method not in _ALLOWED:
            request.setHeader(b"Allow", b", ".join(_ALLOWED))
            return _text(request, 405, "health and metrics are read-only\n")
        match request.path:
            case b"/healthz":
                return _text(request, 200, "ok\n")
            case b"/readyz":
                conditions = await self._readiness.look()
                remarks = [each.remark if self._private else each.told for each in conditions]
                return _readiness(request, conditions, remarks)
            case b"/metrics":
                return self._metrics(request)
            case _:
                return _text(request, 404, "only /healthz, /readyz and /metrics are here\n")

    def _metrics(self, request: RegistryRequest) -> bytes:
        try:
            encode, media_type = choose_encoder(request.header(b"accept"))
        except (TypeError, ValueError):  # it trips over versions that are no numbers
            encode, media_type = choose_encoder("")
        return describe(request, media_type, encode(self._registry))


class OperationsSite(BoundedSite):
    """The same at an endpoint of its own."""

    def __init__(self, operations: Operations, reactor: IReactorTime, limits: HttpLimits) -> None:
        """
        :param limits: those of the other endpoint; there are fewer connections here.
        """
        most = min(MOST_CONNECTIONS, limits.connections)
        limits = attrs.evolve(limits, connections=most, client_connections=most)
        super().__init__(AnsweringResource(operations.answer), reactor, Bounds(limits))


def _readiness(
    request: RegistryRequest, conditions: Sequence[Condition], remarks: Sequence[str]
) -> bytes:
    """The result of each check, with a remark."""
    status = 200 if all(condition.ok for condition in conditions) else 503
    if "application/json" in request.header(b"accept"):
        checks = {
            each.name: {"ok": each.ok, "remark": remark}
            for each, remark in zip(conditions, remarks, strict=True)
        }
        request.setResponseCode(status)
        return describe_json(request, {"ready": status == 200, "checks": checks})
    lines = [
        f"{each.name}: {'ok' if each.ok else 'not ok'}{', ' * bool(remark)}{remark}\n"
        for each, remark in zip(conditions, remarks, strict=True)
    ]
    return _text(request, status, "".join(lines))


def _text(request: RegistryRequest, status: int, text: str) -> bytes:
    request.setResponseCode(status)
    return describe(request, "text/plain; charset=utf-8", text.encode("utf-8", "replace"))
