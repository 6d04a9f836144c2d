"""Holding a request while its image is built, and sending it to itself before it is given up.

Some clients give up a request that has no response headers after 30 s, and all follow nine
redirects. So a request is held for less than that and then redirected to itself with the number
of hops in its query; on the last hop, containerd is told to start over (it does, five times),
and the others, which wait for ever, are held until the build ends.
"""

import re
from collections.abc import Coroutine
from typing import Any, TypeVar

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from twisted.web.server import Request

T = TypeVar("T")

MOST_HOPS = 9
"""Redirects that every client follows."""
_PARAMETER = b"nixery-hop"
_CONTAINERD = re.compile(rb"containerd(?:-client)?/")


@attrs.frozen
class Redirected(Exception):
    """The wait goes on in another request.

    :param location: its path and query.
    """

    location: bytes


class StartOver(Exception):
    """The client is to ask anew in a moment."""


async def hold(
    clock: IReactorTime, limit: float, request: Request, work: Coroutine[Any, Any, T]
) -> T:
    """Wait for some work for as long as this request may wait.

    :param limit: seconds.
    :raises Redirected: if it takes longer.
    :raises StartOver: if it takes longer and there are no more hops.
    """
    hops = hops_of(request.uri)
    waiting = Deferred.fromCoroutine(work)
    last = hops >= MOST_HOPS
    if waiting.called or (last and not _is_containerd(request)):
        return await waiting

    def elapsed(result: T | Failure, _: float) -> T | Failure:
        if not isinstance(result, Failure) or result.check(CancelledError) is None:
            return result  # it ended, well or not, just when it was to be left
        raise StartOver() if last else Redirected(with_hops(request.uri, hops + 1))

    # Not by the exception of a time-out: the work may have time limits of its own.
    return await waiting.addTimeout(limit, clock, onTimeoutCancel=elapsed)


def hops_of(uri: bytes) -> int:
    """How often a request was redirected; what a client made up counts as none, or as the most."""
    for parameter in _parameters(uri):
        name, _, value = parameter.partition(b"=")
        if name == _PARAMETER and re.fullmatch(rb"[0-9]{1,4}", value):
            return min(int(value), MOST_HOPS)
    return 0


def with_hops(uri: bytes, hops: int) -> bytes:
    """A path and query with a number of hops; all other parameters stay as they are."""
    others = [p for p in _parameters(uri) if p.partition(b"=")[0] != _PARAMETER]
    return uri.partition(b"?")[0] + b"?" + b"&".join([*others, b"%s=%d" % (_PARAMETER, hops)])


def _parameters(uri: bytes) -> list[bytes]:
    query = uri.partition(b"?")[2]
    return query.split(b"&") if query else []


def _is_containerd(request: Request) -> bool:
    return _CONTAINERD.search(request.getHeader(b"user-agent") or b"") is not None
