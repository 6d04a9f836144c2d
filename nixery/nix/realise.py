"""From an image and a pinned source to built packages and their closure, by Nix."""

import json
import os
import shutil
import uuid
from collections.abc import Callable
from typing import TypeVar

import psutil
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorThreads
from twisted.internet.threads import deferToThreadPool
from zope.interface import implementer

from nixery.interfaces import INix
from nixery.model.closure import Realisation
from nixery.model.events import Emit
from nixery.model.image import ALWAYS, Image
from nixery.model.source import PinnedSource
from nixery.nix.answers import Account, failure
from nixery.nix.commands import Commands
from nixery.nix.events import EventParser
from nixery.nix.process import Ended, OnLines

T = TypeVar("T")


@implementer(INix)
class Nix:
    """The Nix of this machine, on its own store or on one in a folder."""

    def __init__(
        self,
        reactor: IReactorThreads,
        commands: Commands,
        expressions: str,
        state: str,
        time_limit: int,
    ) -> None:
        """
        :param expressions: the folder of ``realise.nix``.
        :param state: a folder for garbage collector roots.
        :param time_limit: seconds that a builder may run.
        """
        self._reactor = reactor
        self._commands = commands
        self._expression = os.path.join(expressions, "realise.nix")
        self._roots = os.path.join(state, "roots")
        self._time_limit = time_limit

    def start(self) -> None:
        """Drop the garbage collector roots of processes that are no more."""
        os.makedirs(self._roots, exist_ok=True)
        for name in os.listdir(self._roots):
            pid = name.partition(".")[0]
            if not (pid.isdigit() and psutil.pid_exists(int(pid))) or int(pid) == os.getpid():
                shutil.rmtree(os.path.join(self._roots, name), ignore_errors=True)

    def physical(self, path: str) -> str:
        return (self._commands.store or "") + path

    async def realise(self, image: Image, pinned: PinnedSource, emit: Emit) -> Realisation:
        guard = os.path.join(self._roots, f"{os.getpid()}.{uuid.uuid4().hex}")
        os.mkdir(guard)
        try:
            account = await self._build(image, pinned, guard, emit)
            roots = account.roots()
            graph = await self._commands.closure([root.path for root in roots])
        except BaseException:
            shutil.rmtree(guard, ignore_errors=True)
            raise
        return Realisation(roots, graph, guard)

    async def release(self, realisation: Realisation) -> None:
        await self._in_thread(lambda: shutil.rmtree(realisation.guard, ignore_errors=True))

    def _in_thread(self, work: Callable[[], T]) -> "Deferred[T]":
        return deferToThreadPool(self._reactor, self._reactor.getThreadPool(), work)

    async def _build(self, image: Image, pinned: PinnedSource, guard: str, emit: Emit) -> Account:
        parser, account = EventParser(), Account()

        def on_lines(lines: list[bytes]) -> None:
            for line in lines:
                for event in parser.feed(line):
                    for shown in account.note(event):
                        emit(shown)

        ended = await self._nix_build(image, pinned, guard, on_lines)
        if ended.code != 0:
            limit = self._time_limit
            raise await self._in_thread(lambda: failure(account, ended.code, image, pinned, limit))
        return account

    async def _nix_build(
        self, image: Image, pinned: PinnedSource, guard: str, on_lines: OnLines
    ) -> Ended:
        return await self._commands.run(
            "nix-build",
            *("--log-format", "internal-json"),
            "--show-trace",
            *("--timeout", str(self._time_limit)),
            *("--out-link", os.path.join(guard, "root")),
            *("--argstr", "request", request_for(image, pinned)),
            "--",
            self._expression,
            on_lines=on_lines,
        )


def request_for(image: Image, pinned: PinnedSource) -> str:
    """The JSON that ``realise.nix`` takes: everything that came from outside is data in it."""
    always = [name for name in ALWAYS if name not in image.packages]
    packages = [
        *({"name": name, "optional": False} for name in image.packages),
        *({"name": name, "optional": True} for name in always),
    ]
    return json.dumps({"system": image.system, "source": pinned.request(), "packages": packages})
