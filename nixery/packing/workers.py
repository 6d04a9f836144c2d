"""The child processes that pack layers, fed and read by the reactor.

Packing is hashing, compression and walks of folders: nothing for the reactor's thread. Starting
a process holds up the reactor for some milliseconds, so the children are few and stay.
"""

import json
import os
import sys
from collections import deque
from contextlib import suppress
from typing import Protocol

import attrs
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.interfaces import (
    IDelayedCall,
    IProcessTransport,
    IReactorProcess,
    IReactorTime,
)
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from nixery.model.errors import NixeryError, PackerKilled, PackingFailed, ShuttingDown
from nixery.model.reading import Reading, children
from nixery.packing.job import PackedLayer, PackJob, read_answer

_ANSWER_LIMIT = 1 << 20
_COMPLAINT_LIMIT = 1 << 16


@attrs.define(eq=False)
class _Task:
    job: PackJob
    done: Deferred[PackedLayer]


class _Owner(Protocol):
    """What a child reports to."""

    def settled(self, task: _Task, result: PackedLayer | NixeryError) -> None:
        """A task came to its end; the child may be free for another."""

    def gone(self, child: "_Child") -> None:
        """The child has ended, and its last task is settled."""


class Packers:
    """A pool of child processes that pack layers, each one at a time.

    They start when they are first needed. One that dies fails its own job alone and is replaced
    when the next job needs it.

    :param processes: starts the children.
    :param clock: counts the time that they have to end in.
    :param count: how many there may be; one for each processor if not given.
    :param executable: the Python that runs them.
    :param grace: seconds from the polite signal to the deadly one.
    :param reports: a folder for what compression made wrong; none to keep nothing of it.
    :ivar replaced: blocks that had to be compressed in a second way.
    """

    _log = Logger()

    def __init__(
        self,
        processes: IReactorProcess,
        clock: IReactorTime,
        count: int | None = None,
        executable: str = sys.executable,
        grace: float = 5.0,
        reports: str | None = None,
    ) -> None:
        self.replaced = 0
        self._reports = reports
        self._processes = processes
        self._clock = clock
        self._count = count or len(os.sched_getaffinity(0))
        self._executable = executable
        self._grace = grace
        self._children: list[_Child] = []
        self._queue: deque[_Task] = deque()
        self._stopping = False
        self._stopped: list[Deferred[None]] = []
        self._deadline: IDelayedCall | None = None

    def __len__(self) -> int:
        return len(self._children)

    def readings(self) -> list[Reading]:
        """The metrics of the children."""
        return [
            children("packing", lambda: len(self)),
            Reading(
                "nixery_packing_replaced_blocks",
                "Blocks of layers that were compressed wrongly, and then in another way.",
                lambda: self.replaced,
                total=True,
            ),
        ]

    def pack(self, job: PackJob) -> Deferred[PackedLayer]:
        """Pack a layer, after those that were asked for before if all children are busy.

        Cancelling gives the job up at once: a child that is at it is killed.

        :raises PackingFailed: naming the path that can't be packed, or what else went wrong.
        :raises PackerKilled: if a signal ended the child that was at it, or none can be started.
        :raises StorageFull: if the sink has no more room.
        :raises StorageUnavailable: if it can't be written for another reason.
        :raises ShuttingDown: if the pool is stopped before the layer is whole.
        """
        if self._stopping:
            return fail(ShuttingDown())
        task = _Task(job, Deferred(lambda _: self._abandon(task)))
        self._queue.append(task)
        self._feed()
        return task.done

    def stop(self) -> Deferred[None]:
        """End all children and take no more jobs; those that are not done fail.

        :returns: fires when no child is left.
        """
        first = not self._stopping
        self._stopping = True
        tasks, self._queue = self._queue, deque()
        for task in tasks:
            task.done.errback(ShuttingDown())
        if not self._children:
            return succeed(None)
        if first:
            self._deadline = self._clock.callLater(self._grace, self._kill)
            for child in list(self._children):
                child.stop()
        stopped: Deferred[None] = Deferred()
        self._stopped.append(stopped)
        return stopped

    def settled(self, task: _Task, result: PackedLayer | NixeryError) -> None:
        """Tell who waits for a task; the child that had it is given the next one before."""
        self._feed()
        if isinstance(result, PackedLayer):
            self._note(result)
            task.done.callback(result)
        else:
            task.done.errback(result)

    def _note(self, layer: PackedLayer) -> None:
        """Tell of blocks that compression made something else of."""
        self.replaced += layer.replaced
        if layer.replaced:
            self._log.error(
                "{count} blocks of layer {digest} were compressed to what is not them, and "
                "compressed anew in another way; the layer is right. Both outputs: {reports}",
                count=layer.replaced,
                digest=str(layer.digest),
                reports=self._reports or "not kept",
            )

    def gone(self, child: "_Child") -> None:
        """Forget a child that has ended."""
        self._children.remove(child)
        self._feed()
        if self._stopping and not self._children:
            if self._deadline is not None and self._deadline.active():
                self._deadline.cancel()
            waiting, self._stopped = self._stopped, []
            for stopped in waiting:
                stopped.callback(None)

    def _feed(self) -> None:
        while self._queue:
            child = next((child for child in self._children if child.idle), None)
            if child is None and len(self._children) >= self._count:
                return
            task = self._queue.popleft()
            try:
                (child or self._start()).take(task)
            except OSError as error:
                if self._children:  # one of them will be free, or gone
                    self._queue.appendleft(task)
                    return
                reason = f"no packing process can be started: {error.strerror}"
                task.done.errback(PackerKilled("", reason))

    def _start(self) -> "_Child":
        child = _Child(self)
        argv = [self._executable, "-P", "-m", "nixery.packing.worker"]
        argv += [] if self._reports is None else [self._reports]
        child.transport = self._processes.spawnProcess(
            _Pipes(child), self._executable, argv, env=packer_environment()
        )
        self._children.append(child)
        return child

    def _abandon(self, task: _Task) -> None:
        if task in self._queue:
            self._queue.remove(task)
        for child in list(self._children):
            if child.task is task:
                child.abandon()

    def _kill(self) -> None:
        for child in list(self._children):
            child.signal("KILL")


_ALLOCATION = {"MALLOC_MMAP_THRESHOLD_": "33554432", "MALLOC_TRIM_THRESHOLD_": "67108864"}
"""For glibc: blocks of the size of ours are used again, and not asked of the kernel each time,
which would clear them page by page."""


def packer_environment() -> dict[str, str]:
    """A child finds the modules that we find, by whatever means we did; and nothing else of us."""
    paths = os.pathsep.join(os.path.abspath(path) for path in sys.path if path)
    environment = {"PYTHONPATH": paths, **_ALLOCATION}
    if "LD_LIBRARY_PATH" in os.environ:
        environment["LD_LIBRARY_PATH"] = os.environ["LD_LIBRARY_PATH"]
    return environment


class _Pipes(ProcessProtocol):
    def __init__(self, child: "_Child") -> None:
        self._child = child

    def outReceived(self, data: bytes) -> None:
        self._child.heard(data)

    def errReceived(self, data: bytes) -> None:
        self._child.complained(data)

    def processEnded(self, reason: Failure) -> None:
        self._child.ended(reason)


class _Child:
    """One child process and the task that it is at."""

    _log = Logger()

    def __init__(self, owner: _Owner) -> None:
        self.transport: IProcessTransport | None = None
        self.task: _Task | None = None
        self._owner = owner
        self._number = 0
        self._dying = False
        self._answer = b""
        self._complaint = b""
        self._last_words = ""

    @property
    def idle(self) -> bool:
        """Whether it can take a task."""
        return self.task is None and not self._dying

    def take(self, task: _Task) -> None:
        """Begin a task."""
        self.task = task
        self._number += 1
        line = json.dumps({"id": self._number, **task.job.to_json()}).encode()
        if self.transport is not None:
            self.transport.write(line + b"\n")

    def abandon(self) -> None:
        """Give up the task without a word, and with it the process."""
        self.task = None
        self._dying = True
        self.signal("KILL")

    def stop(self) -> None:
        """Ask the process to end; its task fails."""
        self._dying = True
        if self.transport is not None:
            self.transport.closeStdin()
        self.signal("TERM")
        self._settle(ShuttingDown())

    def signal(self, name: str) -> None:
        """Send a signal, if there is still a process to send it to."""
        with suppress(ProcessExitedAlready):
            if self.transport is not None:
                self.transport.signalProcess(name)

    def heard(self, data: bytes) -> None:
        """Take what the process wrote to its standard output."""
        if self._dying:
            return
        self._answer += data
        if b"\n" not in data and len(self._answer) < _ANSWER_LIMIT:
            return
        line, _, self._answer = self._answer.partition(b"\n")
        try:
            if self._answer:
                raise ValueError("more than one answer")
            result = read_answer(self._number, json.loads(line))
        except (ValueError, LookupError, TypeError, NixeryError) as error:
            self._log.error("a packing process wrote {line!r}: {error}", line=line, error=error)
            self._dying = True
            self.signal("KILL")
            result = PackingFailed("", "the packing process gave an answer that makes no sense")
        self._settle(result)

    def complained(self, data: bytes) -> None:
        """Log what the process wrote to its standard error, line by line."""
        *lines, self._complaint = (self._complaint + data).split(b"\n")
        if len(self._complaint) > _COMPLAINT_LIMIT:
            lines.append(self._complaint)
            self._complaint = b""
        for line in lines:
            self._last_words = line.decode("utf-8", "replace")
            self._log.warn("packing process: {line}", line=self._last_words)

    def ended(self, reason: Failure) -> None:
        """Take note that the process is gone and all that it wrote is read."""
        self._dying = True
        if self._complaint:
            self.complained(b"\n")
        self._settle(_failure(reason.value, self._last_words))
        self._owner.gone(self)

    def _settle(self, result: PackedLayer | NixeryError) -> None:
        task, self.task = self.task, None
        if task is not None:
            self._owner.settled(task, result)


def _failure(ending: BaseException | None, last_words: str) -> PackingFailed:
    """What a task fails with whose process has ended."""
    signal, status = getattr(ending, "signal", None), getattr(ending, "exitCode", None)
    how = f"signal {signal}" if signal is not None else f"status {status}"
    reason = f"the packing process ended by {how}" + (f": {last_words}" if last_words else "")
    return PackingFailed("", reason) if signal is None else PackerKilled("", reason)
