"""The processes that make root file systems and pack layers, fed and read by the reactor.

Packing is hashing, compression and walks of folders, which must not run in the reactor's thread.
Starting a process holds the reactor up for some milliseconds, so there are few, and they stay for
as long as there is work now and then.
"""

import os
import sys
from collections import deque
from contextlib import suppress
from typing import TypeVar

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IDelayedCall, IReactorProcess, IReactorTime
from twisted.logger import Logger

from nixery.child_python import module_paths
from nixery.model.build_errors import PackerKilled
from nixery.model.errors import NixeryError
from nixery.model.reading import Reading, children
from nixery.model.service_errors import ShuttingDown
from nixery.packing.job import Job, PackedLayer
from nixery.packing.packer_process import PackerProcess, Task

T = TypeVar("T")

_IDLE = 60.0
"""Seconds without a job after which processes end: each takes tens of megabytes."""
ALLOCATION = {"MALLOC_MMAP_THRESHOLD_": "33554432", "MALLOC_TRIM_THRESHOLD_": "67108864"}
"""For glibc: memory for blocks is reused, and not requested from the kernel each time, which would
clear it page by page."""


class Packers:
    """A pool of packing processes, each of which does one job at a time.

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
        self._workers: list[PackerProcess] = []
        self._queue: deque[Task] = deque()
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
        task = Task(job, Deferred(lambda _: self._abandon(task)))
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

    def _settle(self, task: Task, result: object) -> None:
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

    def _forget(self, worker: PackerProcess) -> None:
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

    def _start(self) -> PackerProcess:
        worker = PackerProcess(self._settle, self._forget)
        argv = [self._executable, "-P", "-m", "nixery.packing.worker"]
        argv += [] if self._reports is None else [self._reports]
        environment = {**module_paths(), **ALLOCATION}
        self._processes.spawnProcess(worker, self._executable, argv, env=environment)
        self._workers.append(worker)
        return worker

    def _abandon(self, task: Task) -> None:
        if task in self._queue:
            self._queue.remove(task)
        for worker in list(self._workers):
            if worker.task is task:
                worker.abandon()

    def _kill(self) -> None:
        for worker in list(self._workers):
            worker.signal("KILL")
