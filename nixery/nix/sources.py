"""Pinned sources in the Nix store: each fetched once, and kept while it is among the recent."""

import hashlib
import os
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlsplit

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorThreads
from twisted.internet.threads import deferToThreadPool

from nixery.coalesce import Coalescer
from nixery.model.errors import NixUnavailable, SourceUnavailable, UnknownTag
from nixery.model.source import (
    Commit,
    Contents,
    LockedFlake,
    PinnedSource,
    Source,
    canonical_json,
    hide_credentials,
    hide_place,
)
from nixery.nix.commands import Commands
from nixery.nix.disk_faults import state_faults
from nixery.nix.flakes import origins_of_inputs
from nixery.nix.git import CommitUnknown, Git
from nixery.nix.mirrors import GitFailed
from nixery.nix.roots import is_roots, remove_roots

T = TypeVar("T")

KEPT = 20
"""Revisions that the garbage collector may not have: those that were used last."""


class Sources:
    """What Nix is told to find the files of a pinned source."""

    def __init__(self, reactor: IReactorThreads, commands: Commands, git: Git, folder: str) -> None:
        """
        :param folder: holds a garbage collector root for each revision that is kept.
        """
        self._reactor = reactor
        self._commands = commands
        self._git = git
        self._folder = folder
        self._fetching: Coalescer[str, list[str]] = Coalescer()

    async def request(self, pinned: PinnedSource) -> dict[str, Any]:
        """Where a pinned source's files are, which are fetched if they aren't here yet: data for
        ``nix/set.nix``.

        :raises UnknownTag: if the source has no such revision.
        :raises SourceUnavailable: if it can't be fetched.
        """
        match pinned.pin:
            case Contents(path=path):
                return {"type": "path", "path": path}
            case LockedFlake(reference=reference):
                paths = await self._fetched(pinned)
                origins = await self._in_thread(lambda: self._origins(reference, paths[0]))
                return {"type": "flake", "reference": reference, "origins": origins}
            case Commit():
                [path] = await self._fetched(pinned)
                return {"type": "path", "path": f"{self._commands.store or ''}{path}"}

    async def stop(self) -> None:
        """Give up all fetching, and wait until none goes on."""
        await self._fetching.stop()

    async def _fetched(self, pinned: PinnedSource) -> list[str]:
        """Store paths of a source, which the garbage collector may not have."""
        identity = canonical_json(pinned.pin.identity())
        name = hashlib.sha256(identity.encode("ascii")).hexdigest()[:32]
        if paths := self._kept(name):
            return paths
        return await self._fetching.join(name, lambda: self._fetch(pinned, name))

    def _kept(self, name: str) -> list[str]:
        """The store paths that are here from an earlier time, marked as used just now."""
        root = os.path.join(self._folder, name)
        paths = []
        with suppress(OSError):
            for number in range(len(os.listdir(root))):
                link = os.path.join(root, str(number))
                paths.append(os.readlink(link))
                os.lstat((self._commands.store or "") + paths[-1])
            _touch(root)
            return paths
        return []

    async def _fetch(self, pinned: PinnedSource, name: str) -> list[str]:
        try:
            if isinstance(pinned.pin, LockedFlake):
                paths = await self._commands.archive(pinned.pin.reference)
            else:
                paths = [await self._add_commit(pinned)]
        except NixUnavailable as error:
            raise _unavailable(pinned.source, error.reason) from error
        await self._in_thread(lambda: self._make_room(name))
        for number, path in enumerate(paths):
            await self._commands.keep([path], os.path.join(self._folder, name, str(number)))
        with state_faults():
            _touch(os.path.join(self._folder, name))
        return paths

    def _origins(self, reference: str, path: str) -> list[str]:
        """What the inputs of a flake in the store are fetched from."""
        folder = parse_qs(urlsplit(reference).query).get("dir", [""])[0]
        place = os.path.join(f"{self._commands.store or ''}{path}", folder, "flake.lock")
        with suppress(OSError, ValueError, RecursionError), open(place, encoding="utf-8") as file:
            return origins_of_inputs(file.read())
        return []  # it has none, or Nix will say what is wrong

    def _in_thread(self, work: Callable[[], T]) -> "Deferred[T]":
        return deferToThreadPool(self._reactor, self._reactor.getThreadPool(), state_faults()(work))

    async def _add_commit(self, pinned: PinnedSource) -> str:
        pin = pinned.pin
        assert isinstance(pin, Commit)
        try:
            folder = await self._git.checkout(pin.url, pin.revision)
        except CommitUnknown:
            raise UnknownTag(pin.revision, str(pinned.source)) from None
        except GitFailed as error:
            raise _unavailable(pinned.source, str(error)) from error
        try:
            return await self._commands.add(folder)
        finally:
            await self._git.discard(folder)

    def _make_room(self, name: str) -> None:
        """Have an empty folder for a revision's roots, and no more others than are kept."""
        os.makedirs(self._folder, exist_ok=True)
        folders = (entry for entry in os.scandir(self._folder) if is_roots(entry.name))
        others = [entry for entry in folders if entry.name != name]
        others.sort(key=lambda entry: entry.stat().st_mtime_ns, reverse=True)
        for entry in others[KEPT - 1 :]:
            remove_roots(entry.path)
        root = os.path.join(self._folder, name)
        remove_roots(root)
        os.makedirs(root, exist_ok=True)


def _unavailable(source: Source, reason: str) -> SourceUnavailable:
    return SourceUnavailable(str(source), hide_place(source, hide_credentials(reason)))


def _touch(folder: str) -> None:
    """Mark a folder as used just now; the kernel's own marks are too coarse to tell two apart."""
    now = time.time_ns()
    os.utime(folder, ns=(now, now))
