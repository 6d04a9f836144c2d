"""Holding a request while its image is built, and sending it to itself before it is given up.

Some clients give up a request that has no response headers after 30 s, and all follow nine
redirects. So a request is held for less than that and then redirected to itself with the number
of hops in its query; on the last hop, containerd is told to start over (it does, five times),
and the others, which wait for ever, are held until the build ends.
"""

import re
from collections.abc import Coroutine
from math import inf
from typing import Any, TypeVar, cast

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from nixery.http.answers import TOO_MANY, RefusedRequest
from nixery.http.bounded_site import on_reserve
from nixery.http.request import RegistryRequest
from nixery.model.service_errors import NoRoomToWait, ShuttingDown

T = TypeVar("T")

MOST_HOPS = 9
"""Redirects that every client follows."""
HURRY = 1.0
"""Seconds that a known image may take when the daemon stops; also those for which a request on the
reserve may wait for a build."""
_PARAMETER = b"nixery-hop"
_CONTAINERD = re.compile(rb"containerd(?:-client)?/")


@attrs.frozen
class Redirected(Exception):
    """The wait goes on in another request.

    :param location: its path and query.
    """

    location: bytes


@attrs.define(eq=False)
class _HeldRequest:
    """A request that is held.

    :param hops: redirects that its client followed.
    :ivar left: whether it is to go on elsewhere.
    :ivar timer: what ends it.
    """

    work: Deferred[Any]
    hops: int
    left: bool = False
    timer: IDelayedCall | None = None

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
    """Holds requests, each for as long as it may be.

    When the daemon stops, all are let go at once: on to themselves where another daemon answers
    then, else with an error that says so.
    """

    def __init__(self, clock: IReactorTime, limit: float) -> None:
        """
        :param limit: seconds.
        """
        self._clock = clock
        self._limit = limit
        self._waits: set[_HeldRequest] = set()
        self._stopping = self._handover = False

    async def hold(self, request: RegistryRequest, work: Coroutine[Any, Any, T]) -> T:
        """Wait for some work for as long as a request may wait.

        :raises Redirected: if it takes longer.
        :raises RefusedRequest: if it takes longer and no hops are left, to have it start over.
        :raises NoRoomToWait: if it waits for a build, and the client has no room to wait.
        :raises ShuttingDown: if the daemon stops, and no other answers in its place.
        """
        wait = _HeldRequest(Deferred.fromCoroutine(work), hops_of(request.uri))
        for_ever = wait.last and not _is_containerd(request)
        self._time(request, wait, inf if for_ever else self._clock.seconds() + self._limit)
        self._waits.add(wait)
        try:
            return cast(T, await wait.work)
        except CancelledError:
            if not wait.left:
                raise
            raise self._answer(request, wait) from None
        except ShuttingDown:
            if not self._stopping:
                raise
            raise self._answer(request, wait) from None
        finally:
            self._waits.remove(wait)
            if wait.timer is not None and wait.timer.active():
                wait.timer.cancel()

    def _time(self, request: RegistryRequest, wait: _HeldRequest, until: float) -> None:
        """Have a wait end that takes too long, unless it takes no time, or may take any.

        Where there is no room to wait, what is known is waited for all the same: on a machine that
        has a lot to do, to find that takes a while.

        :param until: when the request is held no longer.
        """
        hurried = self._stopping or on_reserve(request)
        left = max(0.0, until - self._clock.seconds())
        seconds = min(HURRY, left) if hurried else left
        if seconds < inf and not wait.work.called:
            wait.timer = self._clock.callLater(seconds, self._look, request, wait, until)

    def _look(self, request: RegistryRequest, wait: _HeldRequest, until: float) -> None:
        known = on_reserve(request) and not request.build
        if known and not self._stopping and self._clock.seconds() < until:
            self._time(request, wait, until)
        else:
            wait.leave()

    def release(self, handover: bool) -> bool:
        """Let all requests go that are held, and hold no more.

        :param handover: whether another daemon answers from now on.
        :return: whether anything was held.
        """
        self._stopping, self._handover = True, handover
        held = list(self._waits)
        for wait in held:
            wait.leave()
        return bool(held)

    def _answer(self, request: RegistryRequest, wait: _HeldRequest) -> Exception:
        """Why a request is not held any longer."""
        if self._stopping and not self._handover:
            return ShuttingDown()
        if not self._stopping and on_reserve(request) and request.build:
            return NoRoomToWait()
        if not wait.last:
            return Redirected(with_hops(request.uri, wait.hops + 1))
        # The others are sent nowhere, and ask again after an error as they like.
        if _is_containerd(request):
            return RefusedRequest(
                TOO_MANY, "the image is still being built; ask again", retry_after=1
            )
        return ShuttingDown()


def hops_of(uri: bytes) -> int:
    """How often a request was redirected; an invalid number counts as none, or as the most."""
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


def _is_containerd(request: RegistryRequest) -> bool:
    return _CONTAINERD.search(request.getHeader(b"user-agent") or b"") is not None
