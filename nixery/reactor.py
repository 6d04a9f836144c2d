"""The reactor, as almost every part of the daemon needs it, and the one way into its threads."""

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorThreads, IReactorTime
from twisted.internet.threads import deferToThreadPool

P = ParamSpec("P")
T = TypeVar("T")


class IReactor(IReactorThreads, IReactorTime):
    """A clock, and threads for what blocks."""


def in_thread(
    reactor: IReactorThreads, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs
) -> Deferred[T]:
    """Run blocking work in the reactor's thread pool.

    :return: fires with its result or failure. Cancelling it stops the wait, not the thread.
    """
    return deferToThreadPool(reactor, reactor.getThreadPool(), work, *args, **kwargs)
