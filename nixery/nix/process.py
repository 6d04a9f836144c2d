"""One child process at a time: its lines out, a time limit, and an end that leaves nobody behind.

Each child has a supervisor (:mod:`nixery.nix.supervisor`), which is what is started here: it
adopts orphans, ends every descendant when the child ends, and does the same when this process
dies, however it dies.
"""

import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import cast

import attrs
import psutil
from twisted.internet.defer import Deferred, DeferredList, fail
from twisted.internet.error import ProcessTerminated
from twisted.internet.interfaces import (
    IDelayedCall,
    IProcessTransport,
    IReactorProcess,
    IReactorTime,
)
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from nixery.model.errors import NixUnavailable, ShuttingDown
from nixery.model.limits import BuildLimits
from nixery.model.reading import Reading, children
from nixery.nix import supervisor
from nixery.nix.lines import LineSplitter, OnLines
from nixery.nix.memory_limit import Weighing

SUPERVISOR = supervisor.__file__
MAX_OUTPUT = 256 * 1024 * 1024
"""Bytes of standard output that a child may print."""
GRACE = 5.0
"""Seconds between TERM and KILL."""


@attrs.frozen
class Ended:
    """How a child ended.

    :param code: its exit code, or nothing if a signal ended it.
    :param signal: the number of that signal.
    :param timed_out: whether it was stopped for its time limit.
    :param output: its standard output.
    :param outgrown: whether it was killed for the memory that it took.
    """

    code: int | None
    signal: int | None
    timed_out: bool
    output: bytes
    outgrown: bool = False


@attrs.frozen
class Surroundings:
    """What a child sees of the machine.

    :param environ: all of its environment.
    :param mounts: what files it sees otherwise than this process, as :mod:`nixery.nix.supervisor`
        has them.
    """

    environ: Mapping[str, str]
    mounts: Sequence[str] = ()


@attrs.define(eq=False)
class _Forwarder(ProcessProtocol):
    """Tells a :class:`_Child` what Twisted tells."""

    child: "_Child"

    def outReceived(self, data: bytes) -> None:
        self.child.printed(data)

    def errReceived(self, data: bytes) -> None:
        self.child.errors.feed(data)

    def processExited(self, reason: Failure) -> None:
        self.child.exited()

    def processEnded(self, reason: Failure) -> None:
        self.child.ended(reason)


class _Child:
    def __init__(
        self,
        starts: IReactorProcess,
        clock: IReactorTime,
        errors: LineSplitter,
        grace: float,
        most: int,
    ) -> None:
        self.errors = errors
        self.gone: Deferred[None] = Deferred()
        self.result: Deferred[Ended] = Deferred(lambda _: self.stop())
        self._starts = starts
        self._clock = clock
        self._grace = grace
        self._most = most
        self._output: list[bytes] = []
        self._printed = 0
        self._timed_out = self._outgrown = False
        self._timers: list[IDelayedCall] = []
        self._transport: IProcessTransport | None = None
        self._pid: int | None = None
        self._family: list[psutil.Process] = []
        self._weighing: Weighing | None = None

    def start(
        self,
        argv: Sequence[str],
        surroundings: Surroundings,
        limit: float | None,
        memory: int,
    ) -> None:
        command = kept(argv, surroundings.mounts, self._grace)
        environ = surroundings.environ
        transport = self._starts.spawnProcess(
            _Forwarder(self), command[0], command, env=environ, childFDs={0: "w", 1: "r", 2: "r"}
        )
        self._transport = transport
        transport.closeStdin()
        self._pid = transport.pid
        if limit is not None:
            self._timers.append(self._clock.callLater(limit, self._time_is_up))
        if transport.pid is not None:
            self._weighing = Weighing(self._clock, transport.pid, memory, self._has_outgrown)

    def stop(self) -> None:
        """TERM now, KILL for whatever of it is there after the grace."""
        if self._pid is None:
            return
        # For the case that the supervisor does not live to end them.
        self._family.extend(_descendants(self._pid))
        with suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGTERM)
        self._timers.append(self._clock.callLater(self._grace, self._kill))

    def printed(self, data: bytes) -> None:
        """Keep what came from standard output; end the child when that is too much."""
        before, self._printed = self._printed, self._printed + len(data)
        if self._printed <= self._most:
            self._output.append(data)
        elif before <= self._most:
            self._output.clear()
            self.errors.feed(b"\nit prints more than %d bytes\n" % self._most)
            self.stop()

    def exited(self) -> None:
        """Take note that the child itself is gone, while others may still hold its pipes.

        From here on its process id may be another's.
        """
        self._pid = None
        if self._weighing is not None:
            self._weighing.stop()
        _kill_all(self._family)
        if self._transport is not None:
            self._timers.append(self._clock.callLater(self._grace, self._transport.loseConnection))

    def ended(self, reason: Failure) -> None:
        for timer in self._timers:
            if timer.active():
                timer.cancel()
        self.errors.finish()
        result, self.result = self.result, Deferred()
        if not result.called:
            result.callback(self._outcome(reason))
        self.gone.callback(None)

    def _outcome(self, reason: Failure) -> Ended:
        # ProcessDone is a ProcessTerminated with exit code 0 in all but name.
        value = cast(ProcessTerminated, reason.value)
        output = b"".join(self._output)
        return Ended(value.exitCode, value.signal, self._timed_out, output, self._outgrown)

    def _time_is_up(self) -> None:
        self._timed_out = True
        self.stop()

    def _has_outgrown(self) -> None:
        self._outgrown = True

    def _kill(self) -> None:
        if self._pid is None:
            return
        _kill_all([*self._family, *_descendants(self._pid)])
        with suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)


def kept(argv: Sequence[str], mounts: Sequence[str] = (), grace: float = GRACE) -> list[str]:
    """The command that has a supervisor run a program for this process.

    :param mounts: what files it sees otherwise than this process.
    """
    supervisor = [sys.executable, "-I", "-S", SUPERVISOR, str(os.getpid()), str(grace)]
    return [*supervisor, *mounts, "--", *argv]


class Processes:
    """The children of the daemon: started here, and ended here when it stops."""

    def __init__(
        self,
        starts: IReactorProcess,
        clock: IReactorTime,
        environ: Mapping[str, str],
        grace: float = GRACE,
        memory: int = BuildLimits().memory,
        output: int = MAX_OUTPUT,
    ) -> None:
        """
        :param starts: starts the children.
        :param clock: counts the time that they have.
        :param environ: all that the children see of one.
        :param grace: seconds between TERM and KILL.
        :param memory: bytes that each may have, without the processes that it starts.
        :param output: bytes that each may print to its standard output: one that prints more is
            ended, and has no output.
        """
        self.memory = memory
        self._starts = starts
        self._clock = clock
        self._grace = grace
        self._output = output
        self._usual = Surroundings(environ)
        self._children: set[_Child] = set()
        self._stopping = False

    def __len__(self) -> int:
        return len(self._children)

    def readings(self) -> list[Reading]:
        """The metric of the children."""
        return [children("nix", lambda: len(self))]

    def run(
        self,
        argv: Sequence[str],
        on_lines: OnLines,
        limit: float | None = None,
        surroundings: Surroundings | None = None,
    ) -> Deferred[Ended]:
        """Run a program until it ends.

        Cancelling the result ends it: TERM to its group, and KILL after the grace.

        :param argv: the program, looked up in ``PATH``, and its arguments.
        :param on_lines: gets batches of the lines of its standard error, without their ends.
        :param limit: seconds after which it is ended.
        :param surroundings: what it sees; none for the environment of all children, and the
            files of this process.
        :raises NixUnavailable: if the system has no room for another process.
        :raises ShuttingDown: if all were stopped.
        """
        if self._stopping:
            return fail(ShuttingDown())
        child = _Child(self._starts, self._clock, LineSplitter(on_lines), self._grace, self._output)
        result = child.result
        try:
            child.start(argv, surroundings or self._usual, limit, self.memory)
        except OSError as error:
            return fail(NixUnavailable(f"{argv[0]} can't be started: {error.strerror}"))
        self._children.add(child)
        child.gone.addCallback(lambda _: self._children.discard(child))
        return result

    def stop(self) -> Deferred[None]:
        """End all children and start no more; fires when none is left."""
        self._stopping = True
        children = list(self._children)
        gone = [_when(child.gone) for child in children]
        for child in children:
            child.stop()
        return DeferredList(gone).addCallback(lambda _: None)


def _when(shared: Deferred[None]) -> Deferred[None]:
    """A Deferred of the caller's own that fires with a shared one."""
    own: Deferred[None] = Deferred()
    shared.addCallback(lambda _: own.callback(None))
    return own


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
