"""Keeping blobs in the storage while something uses them."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from nixery.interfaces import IBlobs
from nixery.model.digest import Digest

AGAIN = 10.0
"""Seconds between two notes to the storage: less than it keeps blobs after one."""

_log = Logger()


@contextmanager
def keep_alive(
    clock: IReactorTime, storage: IBlobs, blobs: Iterable[Digest] = ()
) -> Iterator[Callable[[Iterable[Digest]], None]]:
    """A context in which the storage is told again and again that blobs are in use.

    Its value adds blobs, from the next time on: they must have been made or looked up just now.
    """
    used = dict.fromkeys(blobs)

    def use() -> Deferred[None]:
        using = Deferred.fromCoroutine(storage.use(list(used)))
        return using.addErrback(
            lambda failure: _log.warn("{error}", error=failure.getErrorMessage())
        )

    loop = LoopingCall(use)
    loop.clock = clock
    loop.start(AGAIN)
    try:
        yield lambda more: used.update(dict.fromkeys(more))
    finally:
        loop.stop()
