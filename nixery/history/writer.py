"""A running build's events on their way to the disk."""

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from nixery.history.blocks import Block, BlockFile
from nixery.reactor import IReactor

PERIOD = 1.0
"""Seconds after which an event is on disk at the latest, if the disk keeps up."""
_ENOUGH = 128 * 1024
_AT_ONCE = 4 * 1024 * 1024
_MOST = 32 * 1024 * 1024


class Saver:
    """Appends blocks to a file, many at once, in threads.

    What can't be written is lost, and said to be; the next blocks are tried again.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: IReactor,
        file: BlockFile,
        limit: int,
        on_saved: Callable[[int], None],
    ) -> None:
        """
        :param limit: bytes that the file may have, but for the end of a build.
        :param on_saved: is told the number up to which events are on disk, or lost.
        """
        self.fault: str | None = None
        """Why events are missing on disk, if any are."""
        self._reactor = reactor
        self._file = file
        self._limit = limit
        self._on_saved = on_saved
        self._pending: list[Block] = []
        self._size = 0
        self._timer: IDelayedCall | None = None
        self._writing = False
        self._finished: Deferred[None] | None = None

    def put(self, block: Block) -> None:
        """Take a block that is to be written."""
        if self._size > _MOST:
            self._lose("the disk is too slow")  # a gap: what follows may have room again
            return
        self._pending.append(block)
        self._size += len(block.data)
        self._consider()

    def finish(self) -> Deferred[None]:
        """Write what is there; fires when that is done. Nothing may be put any more."""
        finished: Deferred[None] = Deferred()
        self._finished = finished
        self._consider()
        return finished

    def _consider(self) -> None:
        """Write now, later, or not at all."""
        if self._writing:
            return
        if self._finished is not None and not self._pending:
            self._finished.callback(None)
        elif self._finished is not None or self._size >= _ENOUGH:
            self._start()
        elif self._pending and self._timer is None:
            self._timer = self._reactor.callLater(PERIOD, self._start)

    def _start(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        blocks = self._take()
        self._writing = True
        limit = None if self._finished is not None else self._limit
        pool = self._reactor.getThreadPool()
        written = deferToThreadPool(self._reactor, pool, self._write, blocks, limit)
        written.addErrback(lambda failure: failure.getErrorMessage())
        written.addCallback(self._written, blocks[-1].last)

    def _take(self) -> list[Block]:
        """The blocks that are written next."""
        size = count = 0
        while count < len(self._pending) and size < _AT_ONCE:
            size += len(self._pending[count].data)
            count += 1
        taken, self._pending = self._pending[:count], self._pending[count:]
        self._size -= size
        return taken

    def _write(self, blocks: list[Block], limit: int | None) -> str | None:
        """Append blocks, in the thread.

        :return: why some of them are lost, if any are.
        """
        if limit is not None and self._file.size > limit:
            return f"it is longer than {limit / 1e6:.0f} MB"
        joined, fault = _joined(blocks), None
        try:
            # At once: a thread that comes back from each small write to a busy reactor waits.
            self._file.append(*joined)
        except OSError:
            for block in joined:
                try:
                    self._file.append(block)
                except OSError as error:
                    fault = error.strerror or str(error)
        return fault

    def _written(self, fault: str | None, last: int) -> None:
        self._writing = False
        if fault is not None:
            self._lose(fault)
        self._on_saved(last)
        self._consider()

    def _lose(self, fault: str) -> None:
        if self.fault is None:
            path = self._file.path
            self._log.warn("{path} is not complete: {fault}", path=path, fault=fault)
        self.fault = fault


def _joined(blocks: list[Block]) -> list[Block]:
    """Blocks put together where they follow each other and are small."""
    joined: list[list[Block]] = []
    size = 0
    for block in blocks:
        if joined and size < _ENOUGH and joined[-1][-1].last + 1 == block.first:
            joined[-1].append(block)
        else:
            joined.append([block])
            size = 0
        size += len(block.data)
    return [Block(run[0].first, run[-1].last, b"".join(b.data for b in run)) for run in joined]
