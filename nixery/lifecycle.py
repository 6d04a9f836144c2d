"""Services of the parts of the daemon: what is periodic, what starts and stops, and their order."""

from collections.abc import Awaitable, Callable
from typing import Any

from twisted.application.internet import TimerService
from twisted.application.service import IService, MultiService, Service
from twisted.internet.defer import CancelledError, Deferred, DeferredLock, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

Step = Callable[[], Awaitable[object] | None]


class Timer(TimerService):
    """Calls a function again and again.

    Unlike Twisted's own, it goes on when a call fails, which is logged, and to stop it cancels the
    call that is running: a thread that a disk keeps waiting isn't waited for.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime, interval: float, call: Step, now: bool = True) -> None:
        """
        :param interval: seconds from call to call; one that takes longer is waited for.
        :param now: whether the first call is at the start, and not an interval later.
        """
        super().__init__(interval, self._next)  # type: ignore[no-untyped-call]
        self.clock = clock
        self._wanted = call
        self._now = now
        self._to_skip = False
        self._calling: Deferred[Any] | None = None

    def startService(self) -> None:
        """Begin to call."""
        self._to_skip = not self._now  # Twisted's own calls at once
        super().startService()  # type: ignore[no-untyped-call]

    def stopService(self) -> Deferred[None]:
        """Call no more; a call that is running is cancelled."""
        if not self.running:
            return maybeDeferred(lambda: None)
        stopped: Deferred[None] = super().stopService()  # type: ignore[no-untyped-call]
        if self._calling is not None:
            self._calling.cancel()
        return stopped

    def _next(self) -> Deferred[None] | None:
        if self._to_skip:
            self._to_skip = False
            return None
        self._calling = maybeDeferred(_call, self._wanted)
        return self._calling.addErrback(self._went_wrong).addCallback(self._called)

    def _went_wrong(self, failure: Failure) -> None:
        if not failure.check(CancelledError):
            self._log.failure("a periodic task failed; it is repeated", failure)

    def _called(self, _: object) -> None:
        self._calling = None


class Component(Service):
    """A part of the daemon that has a start, a stop, or both, as a service."""

    def __init__(self, start: Step | None = None, stop: Step | None = None) -> None:
        self._start = start
        self._stop = stop

    def startService(self) -> Deferred[Any]:
        """Start it.

        :return: fires when it has started.
        """
        super().startService()  # type: ignore[no-untyped-call]
        return maybeDeferred(_call, self._start)

    def stopService(self) -> Deferred[Any]:
        """Stop it.

        :return: fires when it has stopped.
        """
        super().stopService()  # type: ignore[no-untyped-call]
        return maybeDeferred(_call, self._stop)


class InOrder(MultiService):
    """Services that depend on each other: each is started when those before it have started, and
    stopped when those after it have stopped.

    A plain ``MultiService`` keeps this order too, but waits for no start and no stop.
    """

    _log = Logger()

    def __init__(self, *services: IService) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        for each in services:
            each.setServiceParent(self)
        self._started: list[IService] = []
        self._starting: Deferred[None] | None = None
        self._lock = DeferredLock()

    def startService(self) -> Deferred[None]:
        """Start all. If one can't be started, or this is cancelled, those that have been are
        stopped, which the failure does not wait for.

        :return: fires when all have started.
        """
        Service.startService(self)
        self._starting = Deferred.fromCoroutine(self._start())
        return self._starting.addErrback(self._take_back)

    def stopService(self) -> Deferred[None]:
        """Stop all that have been started, however far that went; failures are logged.

        :return: fires when all have stopped.
        """
        Service.stopService(self)
        if self._starting is not None:
            self._starting.cancel()
        return self._lock.run(lambda: Deferred.fromCoroutine(self._stop()))

    def _take_back(self, failure: Failure) -> Failure:
        self.stopService()
        return failure

    async def _start(self) -> None:
        for each in self.services:
            # Whatever becomes of its start, it may have begun something.
            self._started.append(each)
            await maybeDeferred(each.startService)

    async def _stop(self) -> None:
        while self._started:
            each = self._started.pop()
            try:
                await maybeDeferred(each.stopService)
            except Exception:
                self._log.failure("while stopping")


def _call(step: Step | None) -> Any:
    return None if step is None else step()
