"""Writing a running build's events to disk."""

from collections.abc import Callable
from itertools import pairwise

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from nixery.history.blocks import Block, BlockFile
from nixery.reactor import IReactor, in_thread

PERIOD = 1.0
"""Seconds after which an event is on disk at the latest, if the disk keeps up."""
_ENOUGH = 128 * 1024  # bytes that are written without waiting for more
_AT_ONCE = 4 * 1024 * 1024
_MOST = 32 * 1024 * 1024  # bytes that wait to be written


@attrs.define(eq=False)
class EventWriter:
    """Appends blocks to a file, many at once, in threads.

    Blocks that can't be written are lost; later ones are still tried.

    :param limit: the most bytes of the file, not counting the end of the build.
    :param on_saved: called with the number up to which events are on disk, or lost.
    :ivar fault: why events are missing on disk; None if all are there.
    """

    _log = Logger()

    _reactor: IReactor
    _file: BlockFile
    _limit: int
    _on_saved: Callable[[int], None]
    fault: str | None = attrs.field(init=False, default=None)
    _pending: list[Block] = attrs.field(init=False, factory=list)
    _size: int = attrs.field(init=False, default=0)
    _timer: IDelayedCall | None = attrs.field(init=False, default=None)
    _writing: bool = attrs.field(init=False, default=False)
    _finished: Deferred[None] | None = attrs.field(init=False, default=None)

    def put(self, block: Block) -> None:
        """Queue a block."""
        if self._size > _MOST:
            self._lose("the disk is too slow")  # later blocks may find room again
            return
        self._pending.append(block)
        self._size += len(block.data)
        self._continue()

    def finish(self) -> Deferred[None]:
        """Write all queued blocks; fires when done. No block may follow."""
        finished: Deferred[None] = Deferred()
        self._finished = finished
        self._continue()
        return finished

    def _continue(self) -> None:
        """Write now, or later, or report the end."""
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
        size = count = 0
        while count < len(self._pending) and size < _AT_ONCE:
            size += len(self._pending[count].data)
            count += 1
        blocks, self._pending = self._pending[:count], self._pending[count:]
        self._size -= size
        self._writing = True
        limit = None if self._finished is not None else self._limit
        written = in_thread(self._reactor, self._write, blocks, limit)
        written.addErrback(lambda failure: failure.getErrorMessage())
        written.addCallback(self._written, blocks[-1].last)

    def _write(self, blocks: list[Block], limit: int | None) -> str | None:
        """Append blocks; runs in a thread.

        :return: why some of them are lost, if any are.
        """
        if limit is not None and self._file.size > limit:
            return f"it is longer than {limit / 1e6:.0f} MB"
        joined, fault = _joined(blocks), None
        try:
            # One write: a thread that returns to a busy reactor after each small write waits.
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
        self._continue()

    def _lose(self, fault: str) -> None:
        if self.fault is None:
            path = self._file.path
            self._log.warn("{path} is incomplete: {fault}", path=path, fault=fault)
        self.fault = fault


def _joined(blocks: list[Block]) -> list[Block]:
    """Small consecutive blocks, joined into larger ones."""
    runs, size = [[blocks[0]]], len(blocks[0].data)
    for before, block in pairwise(blocks):
        if size < _ENOUGH and before.last + 1 == block.first:
            runs[-1].append(block)
        else:
            runs.append([block])
            size = 0
        size += len(block.data)
    return [Block(run[0].first, run[-1].last, b"".join(b.data for b in run)) for run in runs]
