"""A packing process: it is given one job at a time, and its answers are read by the reactor."""

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.interfaces import IProcessTransport
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from nixery.model.build_errors import PackerKilled, PackingFailed
from nixery.model.errors import NixeryError
from nixery.model.service_errors import ShuttingDown
from nixery.packing.job import Job

_ANSWER_LIMIT = 1 << 20  # bytes of an answer
_SHOWN = 200  # bytes of an invalid answer, in the log
_STDERR_LIMIT = 1 << 16  # bytes of a line of standard error


@attrs.define(eq=False)
class Task:
    """A job, and the Deferred of its result."""

    job: Job[Any]
    done: Deferred[Any]


class PackerProcess(ProcessProtocol):
    """A packing process and its task."""

    _log = Logger()

    transport: IProcessTransport

    def __init__(
        self, settle: Callable[[Task, object], None], forget: Callable[["PackerProcess"], None]
    ) -> None:
        """
        :param settle: called with a task that has ended, and its result or error.
        :param forget: called when the process has ended.
        """
        self.task: Task | None = None
        self._end_task = settle
        self._forget = forget
        self._number = 0
        self._dying = False
        self._answer = b""
        self._stderr = b""
        self._last_line = ""

    @property
    def idle(self) -> bool:
        """Whether it can take a task."""
        return self.task is None and not self._dying

    def take(self, task: Task) -> None:
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
            shown = line[:_SHOWN]
            self._log.error("a packing process wrote {line!r}: {error}", line=shown, error=error)
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
        self._forget(self)

    def _settle(self, result: object) -> None:
        task, self.task = self.task, None
        if task is not None:
            self._end_task(task, result)
