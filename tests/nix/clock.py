"""Time for tests."""

from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.task import Clock
from zope.interface import implementer

from nixery.reactor import IReactor

reactor: Any = _reactor


@implementer(IReactor)
class SteppedClock(Clock):
    """Time that passes when it is told to, and the reactor's threads."""

    def getThreadPool(self) -> Any:
        return reactor.getThreadPool()

    def callFromThread(self, callable: Any, *args: object, **kwargs: object) -> None:
        reactor.callFromThread(callable, *args, **kwargs)

    def callInThread(self, callable: Any, *args: object, **kwargs: object) -> None:
        reactor.callInThread(callable, *args, **kwargs)

    def suggestThreadPoolSize(self, size: int) -> None:
        reactor.suggestThreadPoolSize(size)
