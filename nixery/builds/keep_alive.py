"""Blobs that are of use for as long as something takes."""

from collections.abc import Iterable
from types import TracebackType

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from nixery.interfaces import IBlobs
from nixery.model.digest import Digest

AGAIN = 10.0
"""Seconds after which it is said once more that blobs are of use: less than a storage keeps them
from then on."""


class Using:
    """Says of blobs, again and again, that they are of use, while its context is entered."""

    _log = Logger()

    def __init__(self, clock: IReactorTime, storage: IBlobs, blobs: Iterable[Digest] = ()) -> None:
        self._storage = storage
        self._blobs = dict.fromkeys(blobs)
        self._loop = LoopingCall(self._use)
        self._loop.clock = clock

    def add(self, blobs: Iterable[Digest]) -> None:
        """Some more, from the next time on: they are of use just now, since they were made or
        looked for."""
        self._blobs.update(dict.fromkeys(blobs))

    def __enter__(self) -> "Using":
        self._loop.start(AGAIN)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._loop.stop()

    def _use(self) -> Deferred[None]:
        using = Deferred.fromCoroutine(self._storage.use(list(self._blobs)))
        return using.addErrback(
            lambda failure: self._log.warn("{error}", error=failure.getErrorMessage())
        )
