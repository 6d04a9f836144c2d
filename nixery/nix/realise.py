"""From an image and a pinned source to built packages and their closure, by Nix."""

import os
import uuid
from typing import Any

import psutil
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from nixery.interfaces import INix
from nixery.model.closure import Realisation
from nixery.model.events import Emit, FetchStarted, Said
from nixery.model.image import Image, spellings
from nixery.model.package_errors import EvaluationFailed
from nixery.model.registration import ValidPath
from nixery.model.source import PinnedSource, Source, canonical_json
from nixery.nix.account import Account, new_mark
from nixery.nix.child import Ended
from nixery.nix.commands import Commands
from nixery.nix.disk_faults import state_faults
from nixery.nix.evaluation import Evaluator, Prepared
from nixery.nix.failure import failure
from nixery.nix.gc_roots import KeptRoots, is_roots, remove_roots
from nixery.nix.internal_json import EventParser, Failing
from nixery.nix.lines import OnLines
from nixery.nix.messages import disclosed, without_place
from nixery.nix.sources import Sources, set_request
from nixery.reactor import IReactor, in_thread
from nixery.recent import Recent
from nixery.slots import Slot, Turns

_WARNING = 1  # a level of Nix's
_MOST_ORIGINS = 50_000
"""Store paths whose binary cache is remembered: Nix tells it only when it copies them."""


@implementer(INix)
class Nix:
    """The Nix of this machine, on its own store or on one in a folder."""

    _log = Logger()

    def __init__(
        self,
        reactor: IReactor,
        commands: Commands,
        sources: Sources,
        evaluator: Evaluator,
        state: str,
        time_limit: int,
        kept: KeptRoots,
        traces: bool = False,
    ) -> None:
        """
        :param state: a folder for garbage collector roots.
        :param time_limit: seconds that a builder may run, and an evaluation.
        :param kept: keeps what was made for a while.
        :param traces: whether anybody is shown Nix's traces, source lines and paths.
        """
        self._traces = traces
        self._reactor = reactor
        self._commands = commands
        self._sources = sources
        self._turns: Turns[str] = Turns()
        self._evaluator = evaluator
        self._roots = os.path.join(state, "roots")
        self._time_limit = time_limit
        self._kept = kept
        self._origins: Recent[str, str] = Recent(reactor.seconds, _MOST_ORIGINS)

    def start(self) -> None:
        """Remove the garbage collector roots of processes that are gone, and log it."""
        try:
            os.makedirs(self._roots, exist_ok=True)
            gone = [name for name in os.listdir(self._roots) if self._drop_left(name)]
        except OSError as error:
            # Known images can be served all the same.
            self._log.warn("{path} can't be used: {error}", path=self._roots, error=error)
            return
        if gone:
            self._log.info(
                "removed from {folder} the garbage collector roots of {count} unfinished builds",
                folder=self._roots,
                count=len(gone),
            )

    def _drop_left(self, name: str) -> bool:
        """Remove roots, if their process is gone.

        :return: whether they were removed.
        """
        pid, _, rest = name.partition(".")
        if not (pid.isdigit() and pid.isascii() and is_roots(rest)):
            return False
        if psutil.pid_exists(int(pid)) and int(pid) != os.getpid():
            return False
        return remove_roots(os.path.join(self._roots, name))

    def physical(self, path: str) -> str:
        return (self._commands.store or "") + path

    async def realise(self, image: Image, pinned: PinnedSource, emit: Emit) -> Realisation:
        guard = os.path.join(self._roots, f"{os.getpid()}.{uuid.uuid4().hex}")
        with state_faults():
            os.makedirs(guard)
        try:
            account = await self._build(image, pinned, guard, emit)
            roots = account.roots()
            graph = await self._commands.closure([path for root in roots for path in root.paths])
        except BaseException:
            remove_roots(guard)
            raise
        known = ((path, self._origins.get(path)) for path in graph)
        substituted = {path: origin for path, origin in known if origin is not None}
        return Realisation(roots, graph, guard, account.has_library, substituted)

    async def registered(self, realisation: Realisation) -> list[ValidPath]:
        return await self._commands.registered(list(realisation.graph))

    async def release(self, realisation: Realisation) -> None:
        await self._kept.keep(realisation.paths)
        await in_thread(self._reactor, remove_roots, realisation.guard)

    async def _build(self, image: Image, pinned: PinnedSource, guard: str, emit: Emit) -> Account:
        account, code = await self._attempt(image, pinned, guard, emit)
        if code != 0 and account.lacks_about:
            emit(Said(_WARNING, "the image is made without package descriptions (meta)"))
            account, code = await self._attempt(image, pinned, guard, emit, about=False)
        if code != 0:
            limit, traces = self._time_limit, self._traces
            raise await in_thread(
                self._reactor, failure, account, code, image, pinned, limit, traces
            )
        return account

    async def _attempt(
        self, image: Image, pinned: PinnedSource, guard: str, emit: Emit, about: bool = True
    ) -> tuple[Account, int | None]:
        """Have Nix evaluate and build.

        :param about: see :func:`request_for`.
        :return: the account of it, and Nix's exit code: none if a signal ended it.
        """
        source = await self._sources.request(pinned)
        account = Account(new_mark())
        request = request_for(image, pinned, source, account.mark, about)
        prepared = await self._evaluator.prepare("realise", request)
        # Evaluations of one set at the same time would each take the memory of one.
        turn = await self._turns.take(canonical_json(pinned.pin.identity()))
        evaluation = _Evaluation(self._reactor, turn, self._time_limit)
        building = self._nix_build(
            prepared, guard, self._listener(account, pinned.source, emit, evaluation)
        )
        evaluation.limit(building)
        try:
            ended = await building
        except CancelledError:
            if evaluation.late:
                reason = f"it did not finish within {self._time_limit} s"
                raise EvaluationFailed(reason) from None
            raise
        finally:
            evaluation.end()
        if ended.outgrown:
            raise account.outgrown(self._commands.memory)
        return account, ended.code

    def _nix_build(self, prepared: Prepared, guard: str, on_lines: OnLines) -> "Deferred[Ended]":
        return self._commands.run(
            "nix-build",
            *("--log-format", "internal-json"),
            "--show-trace",
            *("--timeout", str(self._time_limit)),
            *("--out-link", os.path.join(guard, "root")),
            *prepared.arguments,
            on_lines=on_lines,
            surroundings=prepared.surroundings,
        )

    def _listener(
        self, account: Account, source: Source, emit: Emit, evaluation: "_Evaluation"
    ) -> OnLines:
        """Turns the lines that Nix prints into events."""
        parser = EventParser()

        def on_lines(lines: list[bytes]) -> None:
            for line in lines:
                for event in parser.feed(line):
                    if not isinstance(event, Failing):
                        event = without_place(source, self._commands.store, event, account.mark)
                    if isinstance(event, FetchStarted):
                        self._origins.put(event.path, event.origin)
                    for noted in account.note(event):
                        for shown in disclosed(noted, self._traces):
                            emit(shown)
            if account.found is not None:
                evaluation.end()

        return on_lines


class _Evaluation:
    """The first part of a run of Nix, which has a turn and a time limit.

    :ivar late: whether the limit was exceeded.
    """

    def __init__(self, clock: IReactorTime, turn: Slot, seconds: float) -> None:
        self._clock = clock
        self._turn = turn
        self._seconds = seconds
        self._timer: IDelayedCall | None = None
        self.late = False

    def limit(self, building: "Deferred[Ended]") -> None:
        """Stop the run when the evaluation takes too long."""

        def stop() -> None:
            self.late = True
            building.cancel()

        self._timer = self._clock.callLater(self._seconds, stop)

    def end(self) -> None:
        """Let the next one evaluate; harmless after the first time."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._turn.release()


def request_for(
    image: Image, pinned: PinnedSource, source: dict[str, Any], mark: str, about: bool = True
) -> dict[str, Any]:
    """The argument of ``realise.nix``: all that came from outside is data in it.

    :param source: of :meth:`nixery.nix.sources.Sources.request`.
    :param mark: stands around the documents that the expression prints.
    :param about: whether packages are described for people.
    """
    names = [*((name, False) for name in image.packages), *((n, True) for n in image.optional)]
    packages = [
        {"name": name, "steps": [spellings(step) for step in name.split(".")], "optional": optional}
        for name, optional in names
    ]
    asked = {"packages": packages, "mark": mark, "about": about}
    return set_request(image.system, pinned, source) | asked
