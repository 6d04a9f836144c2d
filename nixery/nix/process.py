"""Child processes: lines out, limits, and an end that leaves no descendant behind.

Each child has a supervisor (:mod:`nixery.nix.supervisor`), which is what is started here: it
adopts orphans, ends every descendant when the child ends, and does the same when this process
dies, however it dies.
"""

import os
import sys
from collections.abc import Mapping, Sequence

import attrs
from twisted.internet.defer import Deferred, DeferredList, fail
from twisted.internet.interfaces import IReactorProcess, IReactorTime

from nixery.coalesce import following
from nixery.model.limits import BuildLimits
from nixery.model.reading import Reading, children
from nixery.model.service_errors import NixUnavailable, ShuttingDown
from nixery.nix import supervisor
from nixery.nix.child import ChildLimits, Ended, SupervisedChild
from nixery.nix.lines import OnLines

MAX_OUTPUT = 256 * 1024 * 1024
"""Bytes of standard output that a child may print."""
GRACE = 5.0
"""Seconds between TERM and KILL."""


@attrs.frozen
class Surroundings:
    """The part of the machine that a child sees.

    :param environ: all of its environment.
    :param mounts: changes to the files that it sees, as :mod:`nixery.nix.supervisor` takes them.
    """

    environ: Mapping[str, str]
    mounts: Sequence[str] = ()


def supervised(argv: Sequence[str], mounts: Sequence[str] = (), grace: float = GRACE) -> list[str]:
    """The command that has a supervisor run a program for this process.

    :param mounts: see :class:`Surroundings`.
    :param grace: seconds between TERM and KILL.
    """
    script = (sys.executable, "-I", "-S", supervisor.__file__)
    return [*script, str(os.getpid()), str(grace), *mounts, "--", *argv]


class Processes:
    """The child processes of the daemon; all end with it."""

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
        :param environ: the environment of children for which nothing else is said.
        :param grace: see :class:`nixery.nix.child.ChildLimits`, like the following.
        """
        self.memory = memory
        self._starts = starts
        self._clock = clock
        self._limits = ChildLimits(grace, memory, output)
        self._usual = Surroundings(environ)
        self._children: set[SupervisedChild] = set()
        self._stopping = False

    def __len__(self) -> int:
        return len(self._children)

    def readings(self) -> list[Reading]:
        """The metric of the children."""
        return [children("nix", lambda: len(self))]

    def run(
        self,
        argv: Sequence[str],
        on_lines: OnLines = lambda lines: None,
        limit: float | None = None,
        surroundings: Surroundings | None = None,
        silence: float | None = None,
    ) -> Deferred[Ended]:
        """Run a program until it ends.

        Cancelling the result ends it: TERM to its group, and KILL after the grace.

        :param argv: the program, looked up in ``PATH``, and its arguments.
        :param on_lines: takes batches of the lines of its standard error, without line ends.
        :param limit: seconds after which it is stopped.
        :param surroundings: none for the usual environment, and the files of this process.
        :param silence: seconds without standard error after which it is stopped.
        :raises NixUnavailable: if the system has no room for another process.
        :raises ShuttingDown: after :meth:`stop`.
        """
        if self._stopping:
            return fail(ShuttingDown())
        seen = surroundings or self._usual
        command = supervised(argv, seen.mounts, self._limits.grace)
        child = SupervisedChild(self._clock, self._limits, on_lines)
        result = child.result
        try:
            child.start(self._starts, command, seen.environ, limit, silence)
        except OSError as error:
            return fail(NixUnavailable(f"{argv[0]} can't be started: {error.strerror}"))
        self._children.add(child)
        child.gone.addCallback(lambda _: self._children.discard(child))
        return result

    def stop(self) -> Deferred[None]:
        """End all children and start no more; fires when none is left."""
        self._stopping = True
        children = list(self._children)
        gone = [following(child.gone) for child in children]
        for child in children:
            child.stop()
        return DeferredList(gone).addCallback(lambda _: None)
