"""Pinned package sources in the Nix store: each fetched once, the last ones kept."""

import hashlib
import os
import time
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qs, urlsplit

from twisted.internet.interfaces import IReactorThreads

from nixery.coalesce import Coalescer
from nixery.model.request_errors import UnknownTag
from nixery.model.service_errors import NixUnavailable, SourceUnavailable
from nixery.model.source import (
    Commit,
    FolderContents,
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
from nixery.nix.gc_roots import is_roots, remove_roots
from nixery.nix.git import CommitUnknown, Git
from nixery.nix.mirrors import GitFailed
from nixery.reactor import in_thread

KEPT = 20
"""Revisions that are kept from the garbage collector: those that were used last."""


class Sources:
    """Fetches pinned sources, and says where Nix finds their files."""

    def __init__(self, reactor: IReactorThreads, commands: Commands, git: Git, folder: str) -> None:
        """
        :param folder: holds garbage collector roots for each revision that is kept.
        """
        self._reactor = reactor
        self._commands = commands
        self._git = git
        self._folder = folder
        self._fetching: Coalescer[str, list[str]] = Coalescer()

    async def request(self, pinned: PinnedSource) -> dict[str, Any]:
        """The ``source`` of :func:`set_request`: where the files of a pinned source are, which are
        fetched if they are not here yet.

        :raises UnknownTag: if the source has no such revision.
        :raises SourceUnavailable: if it can't be fetched.
        """
        match pinned.pin:
            case FolderContents(path=path):
                return {"type": "path", "path": path}
            case LockedFlake(reference=reference):
                paths = await self._fetched(pinned)
                origins = await in_thread(self._reactor, self._origins, reference, paths[0])
                return {"type": "flake", "reference": reference, "origins": origins}
            case Commit():
                [path] = await self._fetched(pinned)
                return {"type": "path", "path": f"{self._commands.store or ''}{path}"}

    async def stop(self) -> None:
        """Cancel all fetching, and wait until it has ended."""
        await self._fetching.stop()

    async def _fetched(self, pinned: PinnedSource) -> list[str]:
        """Store paths of a source, which are kept from the garbage collector."""
        identity = canonical_json(pinned.pin.identity())
        name = hashlib.sha256(identity.encode("ascii")).hexdigest()[:32]
        if paths := self._kept(name):
            return paths
        return await self._fetching.join(name, lambda: self._fetch(pinned, name))

    def _kept(self, name: str) -> list[str]:
        """The store paths of an earlier fetch, marked as used just now."""
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
        await in_thread(self._reactor, self._make_room, name)
        for number, path in enumerate(paths):
            await self._commands.keep([path], os.path.join(self._folder, name, str(number)))
        with state_faults():
            _touch(os.path.join(self._folder, name))
        return paths

    def _origins(self, reference: str, path: str) -> list[str]:
        """Prefixes of the URIs that the inputs of a flake in the store are fetched from."""
        folder = parse_qs(urlsplit(reference).query).get("dir", [""])[0]
        place = os.path.join(f"{self._commands.store or ''}{path}", folder, "flake.lock")
        with suppress(OSError, ValueError, RecursionError), open(place, encoding="utf-8") as file:
            return origins_of_inputs(file.read())
        return []  # it has no inputs, or Nix will say what is wrong

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

    @state_faults()
    def _make_room(self, name: str) -> None:
        """Make an empty folder for a revision's roots, and drop those that are too many."""
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
    """Mark a folder as used just now; the kernel's own times are too coarse to tell two apart."""
    now = time.time_ns()
    os.utime(folder, ns=(now, now))


def set_request(system: str, pinned: PinnedSource, source: dict[str, Any]) -> dict[str, Any]:
    """The argument of ``set.nix``.

    :param source: of :meth:`Sources.request`.
    """
    request: dict[str, Any] = {"system": system, "source": source}
    if pinned.configuration is not None:
        configuration = pinned.configuration
        told = {"config": configuration.config, "overlays": configuration.overlays}
        request["configuration"] = told
    return request
