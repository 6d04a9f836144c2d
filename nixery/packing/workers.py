"""The processes that pack layers, fed and read by the reactor.

Packing is hashing, compression and walks of folders, which must not run in the reactor's thread.
Starting a process holds the reactor up for some milliseconds, so there are few, and they stay for
as long as there is work now and then.
"""

import json
import os
import sys
from collections import deque
from contextlib import suppress
from typing import Any, TypeVar

import attrs
from twisted.internet.defer import Deferred, fail
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

from nixery.model.build_errors import PackerKilled, PackingFailed
from nixery.model.errors import NixeryError
from nixery.model.reading import Reading, children
from nixery.model.service_errors import ShuttingDown
from nixery.packing.job import Job, PackedLayer

T = TypeVar("T")

_ANSWER_LIMIT = 1 << 20  # bytes of an answer
_STDERR_LIMIT = 1 << 16  # bytes of a line of standard error
_IDLE = 60.0
"""Seconds without a job after which processes end: each takes tens of megabytes."""
_ALLOCATION = {"MALLOC_MMAP_THRESHOLD_": "33554432", "MALLOC_TRIM_THRESHOLD_": "67108864"}
"""For glibc: memory for blocks is reused, and not requested from the kernel each time, which would
clear it page by page."""


@attrs.define(eq=False)
class _Task:
    job: Job[Any]
    done: Deferred[Any]


class Packers:
    """A pool of processes that pack layers, each one layer at a time.

    They are started when needed, and end when they have not been for a while. If one dies, its own
    job fails, and the next job starts another.

    :ivar replaced: number of blocks that had to be compressed in a second way.
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
        idle: float = _IDLE,
    ) -> None:
        """
        :param processes: starts the processes.
        :param count: the most processes; one for each processor if None.
        :param executable: the Python interpreter that they run.
        :param grace: seconds between SIGTERM and SIGKILL.
        :param reports: the folder for blocks that were compressed wrongly; None to keep none.
        :param idle: seconds without a job after which processes end.
        """
        self.replaced = 0
        self._idle = idle
        self._resting: IDelayedCall | None = None
        self._reports = reports
        self._processes = processes
        self._clock = clock
        self._count = count or len(os.sched_getaffinity(0))
        self._executable = executable
        self._grace = grace
        self._workers: list[_Worker] = []
        self._queue: deque[_Task] = deque()
        self._stopping = False
        self._stopped: list[Deferred[None]] = []
        self._deadline: IDelayedCall | None = None

    def __len__(self) -> int:
        return len(self._workers)

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

    def prepare(self) -> None:
        """Have a process ready for a job that comes soon."""
        if not self._workers and not self._stopping:
            with suppress(OSError):  # the job will tell
                self._start()
            self._rest()

    def run(self, job: Job[T]) -> Deferred[T]:
        """Do a job, after earlier ones if all processes are busy.

        Cancelling gives the job up at once: a process that is doing it is killed.

        :raises EvaluationFailed: if a package's data for images is invalid.
        :raises TooManyFiles: if the packages have too many for a root file system.
        :raises PackingFailed: naming the path that can't be packed, or what else went wrong.
        :raises PackerKilled: if a signal ended the packing process, or none can be started.
        :raises StorageFull: if the sink has no more room.
        :raises StorageUnavailable: if it can't be written for another reason.
        :raises ShuttingDown: if the pool is stopped before the job is done.
        """
        if self._stopping:
            return fail(ShuttingDown())
        task = _Task(job, Deferred(lambda _: self._abandon(task)))
        self._queue.append(task)
        self._feed()
        return task.done

    def stop(self) -> Deferred[None]:
        """End all processes and take no more jobs; unfinished ones fail.

        :return: fires when no process is left.
        """
        if not self._stopping:
            self._stopping = True
            tasks, self._queue = self._queue, deque()
            for task in tasks:
                task.done.errback(ShuttingDown())
            self._deadline = self._clock.callLater(self._grace, self._kill)
            if self._resting is not None and self._resting.active():
                self._resting.cancel()
            for worker in list(self._workers):
                worker.stop()
        stopped: Deferred[None] = Deferred()
        self._stopped.append(stopped)
        self._report_stopped()
        return stopped

    def _report_stopped(self) -> None:
        if not self._stopping or self._workers:
            return
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        waiting, self._stopped = self._stopped, []
        for stopped in waiting:
            stopped.callback(None)

    def settle(self, task: _Task, result: object) -> None:
        """End a task; its process is given the next one first.

        :param result: of the job, or its error.
        """
        self._feed()
        self._rest()
        if isinstance(result, NixeryError):
            task.done.errback(result)
            return
        if isinstance(result, PackedLayer) and result.replaced:
            self.replaced += result.replaced
            self._log.error(
                "{count} blocks of layer {digest} were compressed wrongly, and then correctly in "
                "another way; the layer is good. Both outputs: {reports}",
                count=result.replaced,
                digest=str(result.digest),
                reports=self._reports or "not kept",
            )
        task.done.callback(result)

    def forget(self, worker: "_Worker") -> None:
        """Note that a process has ended."""
        self._workers.remove(worker)
        self._feed()
        self._report_stopped()

    def _feed(self) -> None:
        while self._queue:
            worker = next((worker for worker in self._workers if worker.idle), None)
            if worker is None and len(self._workers) >= self._count:
                return
            task = self._queue.popleft()
            try:
                (worker or self._start()).take(task)
            except OSError as error:
                if self._workers:  # one of them will be free, or end
                    self._queue.appendleft(task)
                    return
                reason = f"no packing process can be started: {error.strerror}"
                task.done.errback(PackerKilled("", reason))

    def _rest(self) -> None:
        """End idle processes later, unless another job is done by then."""
        if self._stopping:
            return
        if self._resting is not None and self._resting.active():
            self._resting.reset(self._idle)
        else:
            self._resting = self._clock.callLater(self._idle, self._end_idle)

    def _end_idle(self) -> None:
        for worker in self._workers:
            if worker.idle:
                worker.end()

    def _start(self) -> "_Worker":
        worker = _Worker(self)
        argv = [self._executable, "-P", "-m", "nixery.packing.worker"]
        argv += [] if self._reports is None else [self._reports]
        environment = packer_environment()
        self._processes.spawnProcess(worker, self._executable, argv, env=environment)
        self._workers.append(worker)
        return worker

    def _abandon(self, task: _Task) -> None:
        if task in self._queue:
            self._queue.remove(task)
        for worker in list(self._workers):
            if worker.task is task:
                worker.abandon()

    def _kill(self) -> None:
        for worker in list(self._workers):
            worker.signal("KILL")


def packer_environment() -> dict[str, str]:
    """The environment of a packing process: it finds the modules that we find, and no more."""
    paths = os.pathsep.join(os.path.abspath(path) for path in sys.path if path)
    environment = {"PYTHONPATH": paths, **_ALLOCATION}
    if "LD_LIBRARY_PATH" in os.environ:
        environment["LD_LIBRARY_PATH"] = os.environ["LD_LIBRARY_PATH"]
    return environment


class _Worker(ProcessProtocol):
    """A packing process and its task."""

    _log = Logger()

    transport: IProcessTransport

    def __init__(self, pool: Packers) -> None:
        self.task: _Task | None = None
        self._pool = pool
        self._number = 0
        self._dying = False
        self._answer = b""
        self._stderr = b""
        self._last_line = ""

    @property
    def idle(self) -> bool:
        """Whether it can take a task."""
        return self.task is None and not self._dying

    def take(self, task: _Task) -> None:
        """Begin a task."""
        self.task = task
        self._number += 1
        line = json.dumps({"id": self._number, **task.job.to_json()}).encode()
        self.transport.write(line + b"\n")

    def abandon(self) -> None:
        """Kill the process, without an answer to its task."""
        self.task = None
        self._dying = True
        self.signal("KILL")

    def end(self) -> None:
        """Ask the process to end."""
        self._dying = True
        self.transport.closeStdin()

    def stop(self) -> None:
        """Make the process end; its task fails."""
        self.end()
        self.signal("TERM")
        self._settle(ShuttingDown())

    def signal(self, name: str) -> None:
        """Send a signal, if the process still runs."""
        with suppress(ProcessExitedAlready):
            self.transport.signalProcess(name)

    def outReceived(self, data: bytes) -> None:
        *lines, self._answer = (self._answer + data).split(b"\n")
        if len(self._answer) > _ANSWER_LIMIT:
            lines.append(self._answer)
        for line in lines:
            self._read(line)

    def _read(self, line: bytes) -> None:
        """Read an answer; what follows the last one is no answer to anything."""
        if self._dying:
            return
        try:
            answer = json.loads(line)
            if self.task is None or answer["id"] != self._number:
                raise ValueError("it is no answer to a job")
            result = self.task.job.read(answer)
        except (ValueError, LookupError, TypeError, NixeryError) as error:
            self._log.error("a packing process wrote {line!r}: {error}", line=line, error=error)
            self._dying = True
            self.signal("KILL")
            result = PackingFailed("", "the packing process gave an invalid answer")
        if result is not None:
            self._settle(result)

    def errReceived(self, data: bytes) -> None:
        *lines, self._stderr = (self._stderr + data).split(b"\n")
        if len(self._stderr) > _STDERR_LIMIT:
            lines.append(self._stderr)
            self._stderr = b""
        for line in lines:
            self._last_line = line.decode("utf-8", "replace")
            self._log.warn("packing process: {line}", line=self._last_line)

    def processEnded(self, reason: Failure) -> None:
        self._dying = True
        if self._stderr:
            self.errReceived(b"\n")
        signal = getattr(reason.value, "signal", None)
        status = getattr(reason.value, "exitCode", None)
        how = f"signal {signal}" if signal is not None else f"status {status}"
        words = f": {self._last_line}" if self._last_line else ""
        kind = PackingFailed if signal is None else PackerKilled
        self._settle(kind("", f"the packing process ended by {how}{words}"))
        self._pool.forget(self)

    def _settle(self, result: object) -> None:
        task, self.task = self.task, None
        if task is not None:
            self._pool.settle(task, result)
