"""All packages of a package set, found by as many evaluations as that takes.

Some packages end an evaluation whatever the expression does: the next run begins where the last
one ended, and, if it gets no further either, goes on without that attribute. So one run is enough
for most sets, and a run that needed too much memory is followed by one that begins with none.
"""

import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol, TypeVar

import attrs
import psutil
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.threads import deferToThreadPool

from nixery.model.errors import EvaluationFailed, NixUnavailable
from nixery.model.image import AMD64
from nixery.model.package_set import Path, told_outputs, told_path
from nixery.model.source import PinnedSource
from nixery.model.text import cut
from nixery.nix.commands import Commands
from nixery.nix.evaluation import Evaluator
from nixery.nix.lines import LastLines
from nixery.nix.process import Ended, Processes
from nixery.nix.realise import set_request
from nixery.nix.sources import Sources
from nixery.nix.supervisor import leave_folder, take_folder
from nixery.reactor import IReactor

T = TypeVar("T")

_LOW_PRIORITY = ("nice", "-n", "19")


@attrs.frozen
class Limits:
    """What listing the packages of one set may take.

    :param runs: of Nix.
    :param seconds: of all runs together.
    :param silence: seconds that one attribute may take.
    :param size: bytes of all that is told.
    :param memory: bytes of one run.
    """

    runs: int = 100
    seconds: float = 1800
    silence: float = 60
    size: int = 200_000_000
    memory: int = attrs.Factory(lambda: min(4 * 2**30, psutil.virtual_memory().total // 2))


@attrs.frozen
class Listing:
    """What was found in a set.

    :param index: of its packages, as :meth:`nixery.search.ranking.Index.dump` writes it.
    :param skipped: attributes that can't be looked at, as people write them.
    :param whole: whether the end of the set was reached within the limits.
    """

    index: bytes = attrs.field(repr=False)
    skipped: Sequence[str] = ()
    whole: bool = True


@attrs.frozen
class Outputs:
    """The outputs of a set's packages.

    :param paths: store paths, in order; whether they are in the store is not said.
    :param skipped: attributes that can't be looked at, as people write them.
    :param whole: whether the end of the set was reached within the limits.
    """

    paths: Sequence[str]
    skipped: Sequence[str]
    whole: bool


class Lister(Protocol):
    """What lists the packages of a set."""

    async def packages(self, pinned: PinnedSource) -> Listing:
        """All packages of a set for x86-64, with the programs of those that are in the store.

        :raises NixeryError: if the set can't be fetched, or not be evaluated at all.
        """

    async def programs(self, index: bytes) -> bytes | None:
        """An index with the programs of its packages that are in the store now.

        :return: nothing if they are the same.
        """


class Indexer:
    """Lists packages with Nix, at low priority."""

    def __init__(
        self,
        reactor: IReactor,
        processes: Processes,
        commands: Commands,
        sources: Sources,
        evaluator: Evaluator,
        limits: Limits | None = None,
    ) -> None:
        self._reactor = reactor
        self._processes = processes
        self._commands = commands
        self._sources = sources
        self._evaluator = evaluator
        self._limits = limits or Limits()

    async def packages(self, pinned: PinnedSource) -> Listing:
        search = await self._look_through(pinned)
        index = await self._made_of("told", search.lines)
        return Listing(index, search.skipped_names, search.whole)

    async def outputs(self, pinned: PinnedSource) -> Outputs:
        """The outputs of all packages of a set for x86-64.

        :raises NixeryError: if the set can't be fetched, or not be evaluated at all.
        """
        search = await self._look_through(pinned, {"outputs": True})
        paths = await self._in_thread(
            lambda: told_outputs([line.rstrip() for line in search.lines])
        )
        return Outputs(paths, search.skipped_names, search.whole)

    async def programs(self, index: bytes) -> bytes | None:
        return await self._made_of("index", [index]) or None

    async def _made_of(self, kind: str, pieces: Sequence[bytes]) -> bytes:
        """Have an index made by a process of its own: a thread would keep the reactor waiting."""
        taken = await self._in_thread(lambda: take_folder(os.fsencode(tempfile.gettempdir())))
        if taken is None:
            raise NixUnavailable(f"no folder can be made in {tempfile.gettempdir()}")
        folder = os.fsdecode(taken[0])
        try:
            await self._in_thread(lambda: _write(os.path.join(folder, kind), pieces))
            store = f"{self._commands.store or ''}/nix/store"
            python = (sys.executable, "-P", "-m", "nixery.search.indexing", kind, folder, store)
            errors = LastLines()
            command = [*_LOW_PRIORITY, *python]
            ended = await self._processes.run(command, errors.take, self._limits.seconds)
            if ended.code != 0:
                raise NixUnavailable(errors.text()[-500:])
            return await self._in_thread(lambda: _read(os.path.join(folder, "made")))
        finally:
            await self._in_thread(lambda: leave_folder(*taken))

    def _in_thread(self, work: Callable[[], T]) -> "Deferred[T]":
        return deferToThreadPool(self._reactor, self._reactor.getThreadPool(), work)

    async def _look_through(
        self, pinned: PinnedSource, more: Mapping[str, object] = MappingProxyType({})
    ) -> "_Search":
        """Look through a set, past whatever ends its evaluation.

        :param more: what the expression is asked for besides.
        """
        source = await self._sources.request(pinned)
        search = _Search(self._reactor.seconds(), self._limits)
        request = set_request(AMD64, pinned, source) | dict(more)
        while search.goes_on(self._reactor.seconds()):
            search.ended(await self._run(request, search))
        return search

    async def _run(self, request: dict[str, Any], search: "_Search") -> bool:
        """Go on with the search.

        :return: whether the end of the set was reached.
        """
        asked = request | {"from": search.start, "skip": search.skipped}
        prepared = await self._evaluator.prepare("index", asked)
        watch = _Watch(self._reactor, self._limits.silence)

        def on_lines(lines: list[bytes]) -> None:
            watch.heard()
            search.told(lines)
            if search.size > self._limits.size:
                watch.stop()

        left = max(1.0, search.until - self._reactor.seconds())
        running = self._commands.run(
            "nix-instantiate",
            *("--eval", "--strict", "--json", "--readonly-mode"),
            *("--option", "allow-import-from-derivation", "false"),
            *prepared.arguments,
            on_lines=on_lines,
            before=(*_LOW_PRIORITY, "prlimit", f"--data={self._limits.memory}"),
            limit=left,
            surroundings=prepared.surroundings,
        )
        return await watch.over(running)


class _Search:
    """How far a set was looked through."""

    def __init__(self, now: float, limits: Limits) -> None:
        self.until = now + limits.seconds
        self.start: Path = ()
        self.skipped: list[Path] = []
        self.size = 0
        self._limits = limits
        self.lines: list[bytes] = []
        self._errors: list[bytes] = []
        self._last: Path = ()
        self._runs = 0
        self._over = False
        self.whole = False

    def told(self, lines: list[bytes]) -> None:
        """Take lines of Nix's standard error."""
        told = [line for line in lines if line.startswith(b"trace: @nixery@")]
        self.lines.extend(line + b"\n" for line in told)
        self.size += sum(map(len, told))
        if len(told) < len(lines):
            others = (line for line in lines if not line.startswith(b"trace: "))
            self._errors = [*self._errors, *others][-20:]
        self._last = next(filter(None, map(told_path, reversed(told))), self._last)

    @property
    def skipped_names(self) -> tuple[str, ...]:
        """The attributes that can't be looked at, as people write them."""
        return tuple(".".join(path)[:200] for path in self.skipped)

    def goes_on(self, now: float) -> bool:
        """Whether there is more to look through, and leave to do it."""
        self._runs += 1
        within = self._runs <= self._limits.runs and self.size <= self._limits.size
        return not self._over and within and now < self.until

    def ended(self, whole: bool) -> None:
        """Take note that a run has ended.

        :raises EvaluationFailed: if it did not come to a single attribute.
        """
        self._over = self.whole = whole
        if whole:
            return
        if not self._last:
            raise self._failure()
        if self._last > self.start:
            self.start = self._last
        elif self.start in self.skipped:
            self._over = True
        else:
            self.skipped.append(self.start)

    def _failure(self) -> EvaluationFailed:
        lines = b"\n".join(self._errors).decode("utf-8", "replace").splitlines()
        said = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
        words = cut((said or ["Nix ended without a word"])[0], 500)
        return EvaluationFailed(words, "\n".join(lines))


def _write(path: str, pieces: Sequence[bytes]) -> None:
    with open(path, "wb") as file:
        file.writelines(pieces)


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


class _Watch:
    """Stops a run that has been silent for too long."""

    def __init__(self, clock: IReactorTime, silence: float) -> None:
        self._silence = silence
        self._stopped = False
        self._running: Deferred[Ended] | None = None
        self._timer: IDelayedCall = clock.callLater(silence, self.stop)

    def heard(self) -> None:
        """Take note that the run is not silent."""
        if self._timer.active():
            self._timer.reset(self._silence)

    def stop(self) -> None:
        """End the run."""
        self._stopped = True
        if self._running is not None:
            self._running.cancel()

    async def over(self, running: "Deferred[Ended]") -> bool:
        """Wait for the end of the run.

        :return: whether it ended by itself, and well.
        """
        self._running = running
        try:
            ended = await running
        except CancelledError:
            if not self._stopped:
                raise
            return False
        finally:
            if self._timer.active():
                self._timer.cancel()
        return ended.code == 0
