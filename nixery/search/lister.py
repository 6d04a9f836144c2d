"""All packages of a package set, found by as many evaluations as that takes.

Some packages end an evaluation whatever the expression does: the next run begins where the last
one ended, and, if it gets no further either, skips that attribute. So one run is enough for most
sets, and a run that needed too much memory is followed by one that begins with none.
"""

import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import attrs
import psutil
from twisted.internet.defer import CancelledError

from nixery.model.image import AMD64
from nixery.model.package_errors import EvaluationFailed
from nixery.model.package_set import Path, told_outputs, told_path
from nixery.model.service_errors import NixUnavailable
from nixery.model.source import PinnedSource
from nixery.model.text import cut
from nixery.nix.commands import Commands
from nixery.nix.evaluation import Evaluator
from nixery.nix.process import Processes
from nixery.nix.sources import Sources, set_request
from nixery.nix.supervisor import leave_folder, take_folder
from nixery.reactor import IReactor, in_thread

_LOW_PRIORITY = ("nice", "-n", "19")
_TOLD = b"trace: @nixery@"


@attrs.frozen
class ListingLimits:
    """Bounds of listing one set.

    :param runs: of Nix.
    :param seconds: of all runs together.
    :param silence: seconds that one attribute may take.
    :param size: bytes of all that the expression prints.
    :param memory: bytes of one run.
    """

    runs: int = 100
    seconds: float = 1800
    silence: float = 60
    size: int = 200_000_000
    memory: int = attrs.Factory(lambda: min(4 * 2**30, psutil.virtual_memory().total // 2))


@attrs.frozen
class PackageListing:
    """The packages of a set.

    :param index: of them, as :meth:`nixery.search.ranking.Index.dump` makes it.
    :param skipped: attributes that can't be evaluated, as people write them.
    :param whole: whether the end of the set was reached within the limits.
    """

    index: bytes = attrs.field(repr=False)
    skipped: Sequence[str] = ()
    whole: bool = True


@attrs.frozen
class OutputListing:
    """The outputs of a set's packages.

    :param paths: store paths, in order, whether they are in the store or not.
    :param skipped: attributes that can't be evaluated, as people write them.
    :param whole: whether the end of the set was reached within the limits.
    """

    paths: Sequence[str]
    skipped: Sequence[str]
    whole: bool


class Indexer:
    """Lists packages with Nix, at low priority."""

    def __init__(
        self,
        reactor: IReactor,
        processes: Processes,
        commands: Commands,
        sources: Sources,
        evaluator: Evaluator,
        limits: ListingLimits | None = None,
        system: str = AMD64,
    ) -> None:
        """
        :param system: that packages are for.
        """
        self._system = system
        self._reactor = reactor
        self._processes = processes
        self._commands = commands
        self._sources = sources
        self._evaluator = evaluator
        self._limits = limits or ListingLimits()

    async def packages(self, pinned: PinnedSource) -> PackageListing:
        """All packages of a set, with the programs of those that are in the store.

        :raises NixeryError: if the set can't be fetched, or not be evaluated at all.
        """
        progress = await self._look_through(pinned)
        index = await self._make_index("told", progress.lines)
        return PackageListing(index, progress.skipped_names, progress.whole)

    async def outputs(self, pinned: PinnedSource) -> OutputListing:
        """The outputs of all packages of a set.

        :raises NixeryError: if the set can't be fetched, or not be evaluated at all.
        """
        progress = await self._look_through(pinned, {"paths": True})
        lines = (line.rstrip() for line in progress.lines)
        paths = await in_thread(self._reactor, told_outputs, lines)
        return OutputListing(paths, progress.skipped_names, progress.whole)

    async def programs(self, index: bytes) -> bytes | None:
        """An index with the programs of its packages that are in the store now.

        :return: nothing if they are the same.
        """
        return await self._make_index("index", [index]) or None

    async def _make_index(self, kind: str, pieces: Sequence[bytes]) -> bytes:
        """Run :mod:`nixery.search.indexing`."""
        parent = tempfile.gettempdir()
        taken = await in_thread(self._reactor, take_folder, os.fsencode(parent))
        if taken is None:
            raise NixUnavailable(f"no folder can be made in {parent}")
        folder = os.fsdecode(taken[0])
        try:
            await in_thread(self._reactor, _write, os.path.join(folder, kind), pieces)
            store = f"{self._commands.store or ''}/nix/store"
            python = (sys.executable, "-P", "-m", "nixery.search.indexing", kind, folder, store)
            command = [*_LOW_PRIORITY, *python]
            ended = await self._processes.run(command, limit=self._limits.seconds)
            if ended.code != 0:
                raise NixUnavailable(ended.errors[-500:])
            return await in_thread(self._reactor, _read, os.path.join(folder, "made"))
        finally:
            await in_thread(self._reactor, leave_folder, *taken)

    async def _look_through(
        self, pinned: PinnedSource, more: Mapping[str, object] = MappingProxyType({})
    ) -> "_Walk":
        """Look through a set, past whatever ends its evaluation.

        :param more: further requests to the expression.
        """
        source = await self._sources.request(pinned)
        progress = _Walk(self._reactor.seconds(), self._limits)
        request = set_request(self._system, pinned, source) | dict(more)
        while progress.goes_on(self._reactor.seconds()):
            progress.ended(await self._run(request, progress))
        return progress

    async def _run(self, request: dict[str, Any], progress: "_Walk") -> bool:
        """Go on looking through a set.

        :return: whether the end of the set was reached.
        """
        # Each licence that ends an evaluation takes a run: too many of them are left out.
        licences = progress.runs <= self._limits.runs // 2
        walk = {"from": progress.start, "skip": progress.skipped, "licences": licences}
        asked = request | walk
        prepared = await self._evaluator.prepare("index", asked)

        def on_lines(lines: list[bytes]) -> None:
            progress.take(lines)
            if progress.is_full:
                running.cancel()

        running = self._commands.run(
            "nix-instantiate",
            *("--eval", "--strict", "--json", "--readonly-mode"),
            *("--option", "allow-import-from-derivation", "false"),
            *prepared.arguments,
            on_lines=on_lines,
            before=(*_LOW_PRIORITY, "prlimit", f"--data={self._limits.memory}"),
            limit=max(1.0, progress.until - self._reactor.seconds()),
            silence=self._limits.silence,
            surroundings=prepared.surroundings,
        )
        try:
            return (await running).code == 0
        except CancelledError:
            if not progress.is_full:
                raise
            return False


class _Walk:
    """How far a set was looked through.

    :ivar until: the time at which all runs end.
    :ivar start: where the next run begins.
    :ivar skipped: attributes that can't be evaluated.
    :ivar lines: what the expression printed, for :func:`nixery.model.package_set.parse_told`.
    :ivar whole: whether the end of the set was reached.
    :ivar runs: the number of runs so far, this one included.
    """

    def __init__(self, now: float, limits: ListingLimits) -> None:
        self.until = now + limits.seconds
        self.start: Path = ()
        self.skipped: list[Path] = []
        self.lines: list[bytes] = []
        self.whole = False
        self._limits = limits
        self._size = 0
        self._errors: list[bytes] = []
        self._last: Path = ()
        self.runs = 0
        self._over = False

    def take(self, lines: list[bytes]) -> None:
        """Take lines of Nix's standard error."""
        told = [line for line in lines if line.startswith(_TOLD)]
        self.lines.extend(line + b"\n" for line in told)
        self._size += sum(map(len, told))
        if len(told) < len(lines):
            others = (line for line in lines if not line.startswith(b"trace: "))
            self._errors = [*self._errors, *others][-20:]
        self._last = next(filter(None, map(told_path, reversed(told))), self._last)

    @property
    def is_full(self) -> bool:
        """Whether the expression has printed more than it may."""
        return self._size > self._limits.size

    @property
    def skipped_names(self) -> tuple[str, ...]:
        """The attributes that can't be evaluated, as people write them."""
        return tuple(".".join(path)[:200] for path in self.skipped)

    def goes_on(self, now: float) -> bool:
        """Whether there is to be another run."""
        self.runs += 1
        within = self.runs <= self._limits.runs and not self.is_full
        return not self._over and within and now < self.until

    def ended(self, whole: bool) -> None:
        """Note that a run has ended.

        :param whole: whether the end of the set was reached.
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
        return EvaluationFailed(cut((said or ["Nix gave no reason"])[0], 500), "\n".join(lines))


def _write(path: str, pieces: Sequence[bytes]) -> None:
    with open(path, "wb") as file:
        file.writelines(pieces)


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()
