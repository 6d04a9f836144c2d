"""One supervised child process: its output, its time and memory limits, and its end."""

import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import cast

import attrs
import psutil
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessTerminated
from twisted.internet.interfaces import (
    IDelayedCall,
    IProcessTransport,
    IReactorProcess,
    IReactorTime,
)
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure

from nixery.nix.lines import LastLines, LineSplitter, OnLines

_EVERY = 0.5
"""Seconds between two looks at a child's memory. Nix's evaluator grows by up to 1 GB a second."""


@attrs.frozen
class Ended:
    """How a child ended.

    :param code: its exit code, or nothing if a signal ended it.
    :param signal: the number of that signal.
    :param timed_out: whether it was stopped for the limit of its time, or of its silence.
    :param output: its standard output.
    :param outgrown: whether it was killed for the memory that it took.
    :param errors: the last lines of its standard error that are not blank.
    """

    code: int | None
    signal: int | None
    timed_out: bool
    output: bytes
    outgrown: bool = False
    errors: str = attrs.field(default="", eq=False)


@attrs.frozen
class ChildLimits:
    """The bounds of every child.

    :param grace: seconds between TERM and KILL.
    :param memory: bytes that it may have, without the processes that it starts.
    :param output: bytes that it may print to its standard output: one that prints more is ended,
        and has no output.
    """

    grace: float
    memory: int
    output: int


@attrs.define(eq=False)
class _Forwarder(ProcessProtocol):
    child: "SupervisedChild"

    def outReceived(self, data: bytes) -> None:
        self.child.printed(data)

    def errReceived(self, data: bytes) -> None:
        self.child.said(data)

    def processExited(self, reason: Failure) -> None:
        self.child.exited()

    def processEnded(self, reason: Failure) -> None:
        self.child.ended(reason)


class SupervisedChild:
    """A child that is started through :mod:`nixery.nix.supervisor`.

    :ivar result: fires when it has ended; cancelling it stops the child.
    :ivar gone: fires when it has ended, cancelled or not.
    """

    def __init__(self, clock: IReactorTime, limits: ChildLimits, on_lines: OnLines) -> None:
        self.result: Deferred[Ended] = Deferred(lambda _: self.stop())
        self.gone: Deferred[None] = Deferred()
        self._last = LastLines()

        def take(lines: list[bytes]) -> None:
            self._last.take(lines)
            on_lines(lines)

        self.stderr = LineSplitter(take)
        self._clock = clock
        self._limits = limits
        self._output: list[bytes] = []
        self._printed = 0
        self._timed_out = self._outgrown = False
        self._timers: list[IDelayedCall] = []
        self._silence: float | None = None
        self._silent: IDelayedCall | None = None
        self._transport: IProcessTransport | None = None
        self._pid: int | None = None
        self._program: psutil.Process | None = None
        self._family: list[psutil.Process] = []
        self._weighing = LoopingCall(self._weigh)
        self._weighing.clock = clock

    def start(
        self,
        starts: IReactorProcess,
        command: Sequence[str],
        environ: Mapping[str, str],
        limit: float | None,
        silence: float | None,
    ) -> None:
        """Start it.

        :param command: the supervisor's, with the program behind it.
        :param limit: seconds after which it is stopped.
        :param silence: seconds without standard error after which it is stopped.
        :raises OSError: if the system has no room for another process.
        """
        self._transport = starts.spawnProcess(
            _Forwarder(self), command[0], command, env=environ, childFDs={0: "w", 1: "r", 2: "r"}
        )
        self._transport.closeStdin()
        self._pid = self._transport.pid
        if limit is not None:
            self._timers.append(self._clock.callLater(limit, self._time_is_up))
        if silence is not None:
            self._silence = silence
            self._silent = self._clock.callLater(silence, self._time_is_up)
            self._timers.append(self._silent)
        if self._pid is not None:
            self._weighing.start(_EVERY, now=False)

    def stop(self) -> None:
        """Send TERM now, and KILL after the grace to what is left of it."""
        if self._pid is None:
            return
        # In case that the supervisor does not live to end them.
        self._family.extend(_descendants(self._pid))
        with suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGTERM)
        self._timers.append(self._clock.callLater(self._limits.grace, self._kill))

    def said(self, data: bytes) -> None:
        """Take a part of its standard error."""
        if self._silence is not None and self._silent is not None and self._silent.active():
            self._silent.reset(self._silence)
        self.stderr.feed(data)

    def printed(self, data: bytes) -> None:
        """Keep a part of its standard output, and stop it when that is too much."""
        before, self._printed = self._printed, self._printed + len(data)
        if self._printed <= self._limits.output:
            self._output.append(data)
        elif before <= self._limits.output:
            self._output.clear()
            self.stderr.feed(b"\nit prints more than %d bytes\n" % self._limits.output)
            self.stop()

    def exited(self) -> None:
        """Note that the child itself is gone, while others may still hold its pipes. From here on
        its process id may be another's."""
        self._pid = None
        self._stop_weighing()
        _kill_all(self._family)
        if self._transport is not None:
            close = self._transport.loseConnection
            self._timers.append(self._clock.callLater(self._limits.grace, close))

    def ended(self, reason: Failure) -> None:
        """Note that it is gone and its pipes are closed."""
        for timer in self._timers:
            if timer.active():
                timer.cancel()
        self.stderr.finish()
        result, self.result = self.result, Deferred()
        if not result.called:
            # ProcessDone is a ProcessTerminated with exit code 0 in all but name.
            value = cast(ProcessTerminated, reason.value)
            output, errors = b"".join(self._output), self._last.text()
            code, number = value.exitCode, value.signal
            result.callback(Ended(code, number, self._timed_out, output, self._outgrown, errors))
        self.gone.callback(None)

    def _time_is_up(self) -> None:
        self._timed_out = True
        self.stop()

    def _kill(self) -> None:
        if self._pid is None:
            return
        _kill_all([*self._family, *_descendants(self._pid)])
        with suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)

    def _weigh(self) -> None:
        """Kill the program if it has too much memory. Resource limits are no help: builders would
        inherit them, and may well need more than Nix does."""
        # It may end at any moment.
        with suppress(psutil.Error, OSError):
            if self._program is None and self._pid is not None:
                self._program = _first_child(self._pid)
            elif self._program and self._program.memory_info().rss > self._limits.memory:
                self._program.kill()
                self._stop_weighing()
                self._outgrown = True

    def _stop_weighing(self) -> None:
        if self._weighing.running:
            self._weighing.stop()


def _first_child(pid: int) -> psutil.Process | None:
    """The program that a supervisor runs: orphans that it adopts are younger."""
    with open(f"/proc/{pid}/task/{pid}/children", "rb") as file:
        children = file.read().split()
    return psutil.Process(int(children[0])) if children else None


def _descendants(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _kill_all(processes: Sequence[psutil.Process]) -> None:
    """Kill those that are still the ones that were meant."""
    for process in processes:
        with suppress(psutil.Error):
            process.kill()
