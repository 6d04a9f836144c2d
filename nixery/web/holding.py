"""Holding a request while its image is built, and sending it to itself before it is given up.

Some clients give up a request that has no response headers after 30 s, and all follow nine
redirects. So a request is held for less than that and then redirected to itself with the number
of hops in its query; on the last hop, containerd is told to start over (it does, five times),
and the others, which wait for ever, are held until the build ends.
"""

import re
from collections.abc import Coroutine
from typing import Any, TypeVar, cast

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
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


@attrs.define(eq=False)
class _Wait:
    """A request that is held.

    :param hops: redirects that its client followed.
    :ivar left: whether it is to go on elsewhere.
    """

    work: Deferred[Any]
    hops: int
    left: bool = False

    @property
    def last(self) -> bool:
        """Whether the client follows no more redirects."""
        return self.hops >= MOST_HOPS

    def leave(self) -> None:
        """Have the client go on waiting elsewhere."""
        if not self.work.called:
            self.left = True
            self.work.cancel()


class Holding:
    """Holds requests, each for as long as it may be."""

    def __init__(self, clock: IReactorTime, limit: float) -> None:
        """
        :param limit: seconds.
        """
        self._clock = clock
        self._limit = limit
        self._waits: set[_Wait] = set()

    async def hold(self, request: Request, work: Coroutine[Any, Any, T]) -> T:
        """Wait for some work for as long as a request may wait.

        :raises Redirected: if it takes longer.
        :raises StartOver: if it takes longer and there are no more hops.
        """
        wait = _Wait(Deferred.fromCoroutine(work), hops_of(request.uri))
        if wait.work.called:
            return cast(T, await wait.work)
        timer = None
        if not wait.last or _is_containerd(request):
            timer = self._clock.callLater(self._limit, wait.leave)
        self._waits.add(wait)
        try:
            return cast(T, await wait.work)
        except CancelledError:
            if not wait.left:
                raise
            where = StartOver() if wait.last else Redirected(with_hops(request.uri, wait.hops + 1))
            raise where from None
        finally:
            self._waits.remove(wait)
            if timer is not None and timer.active():
                timer.cancel()

    def release(self) -> None:
        """Hold nothing longer: those who follow redirects go on waiting elsewhere."""
        self._limit = 0.0
        for wait in list(self._waits):
            if not wait.last:
                wait.leave()


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
