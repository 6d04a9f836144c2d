"""A folder of this machine as a package source: its contents are its revision."""

import os
import re
from contextlib import suppress
from typing import Generic, TypeVar

import attrs
from twisted.internet.defer import Deferred
from zope.interface import implementer

from nixery.coalesce import Coalescer
from nixery.interfaces import IResolver
from nixery.model.request_errors import UnknownTag
from nixery.model.service_errors import SourceUnavailable
from nixery.model.source import (
    Commit,
    Configuration,
    FolderContents,
    LocalFolder,
    Pin,
    PinnedSource,
    hide_place,
)
from nixery.model.tags import LATEST
from nixery.nix.fingerprint import Fingerprints
from nixery.nix.git import Git
from nixery.nix.mirrors import GitFailed
from nixery.nix.watched_tree import WatchedTree
from nixery.reactor import IReactor, in_thread
from nixery.slots import Slots

T = TypeVar("T")

_STORE_PATH = re.compile(r"/nix/store/[0-9a-z]{32}-[^/]+")
# Files that git changes when another commit is checked out, a commit is made, or the origin is
# set.
_GIT_FILES = ("HEAD", "config", "index", "logs/HEAD", "packed-refs", "info/exclude")
_GIT_FOLDERS = {
    ".git": ("HEAD", "config", "index", "logs", "packed-refs", "info"),
    ".git/logs": ("HEAD",),
    ".git/info": ("exclude",),
}
"""Where these files are, and what matters there."""


@attrs.frozen
class _Seen(Generic[T]):
    """What was seen at a walk.

    :param look: what it is known again by.
    """

    look: str
    pinned: T
    tree: WatchedTree | None


@implementer(IResolver)
class FolderResolver:
    """A folder has one tag, ``latest``: its contents at the moment.

    The revision of a store path is the path; that of a git work tree with exactly the files of its
    commit, the commit; that of any other folder, a fingerprint of its contents.
    """

    def __init__(self, reactor: IReactor, git: Git, source: LocalFolder) -> None:
        self._reactor = reactor
        self._git = git
        self._source = source
        self._fingerprints = Fingerprints(source.path)
        self._turn = Slots()
        self._looking: Coalescer[int, PinnedSource] = Coalescer()
        self._next = 0  # the number of the next look
        self._seen: _Seen[PinnedSource] | None = None

    async def resolve(self, tag: str, client: str = "") -> PinnedSource:
        if tag != LATEST:
            raise UnknownTag(tag, f"{self._source}, whose only tag is {LATEST!r}")
        return self.current(tag) or await self._pinned()

    def current(self, tag: str) -> PinnedSource | None:
        return _standing(self._seen) if tag == LATEST else None

    async def refresh(self) -> None:
        """A folder is looked at each time, or watched."""

    async def tags(self) -> list[str]:
        return [LATEST]

    async def date(self, pinned: PinnedSource) -> int | None:
        if not isinstance(pinned.pin, Commit):
            return None
        try:
            return await self._git.date(pinned.pin.url, pinned.revision)
        except GitFailed as error:
            reason = hide_place(self._source, str(error))
            raise SourceUnavailable(str(self._source), reason) from error

    async def unchanged(self, pinned: PinnedSource) -> bool:
        if not isinstance(pinned.pin, FolderContents):
            return True
        return (await self.resolve(LATEST)).pin == pinned.pin

    async def stop(self) -> None:
        await self._looking.stop()
        self._seen = None

    def _pinned(self) -> "Deferred[PinnedSource]":
        """The revision at this moment.

        Requests that come during a look share the next one: the look that has begun may have
        missed a change since.
        """
        return self._looking.join(self._next, self._look_in_turn)

    async def _look_in_turn(self) -> PinnedSource:
        with await self._turn.take():
            self._next += 1
            return self.current(LATEST) or await self._pin()

    async def _pin(self) -> PinnedSource:
        before, old = self._seen, None
        if before is not None:
            old, self._seen = before.tree, attrs.evolve(before, tree=None)
        try:
            path, look, tree = await in_thread(self._reactor, self._look, old)
            if before is not None and before.look == look:
                pinned = before.pinned
            else:
                pinned = PinnedSource(self._source, await self._pin_of(path))
        except OSError as error:
            raise SourceUnavailable(str(self._source), error.strerror or str(error)) from error
        self._seen = _Seen(look, pinned, tree)
        return pinned

    async def _pin_of(self, path: str) -> Pin:
        if _STORE_PATH.match(path):
            return FolderContents(path, path)
        pin = await self._commit(path)
        if pin is None:
            taken = await in_thread(self._reactor, self._fingerprints.take)
            pin = FolderContents(self._source.path, taken)
        return pin

    def _look(self, before: WatchedTree | None) -> tuple[str, str, WatchedTree]:
        """The folder's real path, and a text that changes when the files or their commit may have
        changed."""
        tree = WatchedTree(self._source.path, self._reactor.seconds, before)
        path = os.path.realpath(self._source.path)  # a link that changes from now on is noticed
        if _STORE_PATH.match(path):
            tree.see(path, os.lstat(path))
            return path, path, tree
        for folder, names in _GIT_FOLDERS.items():
            tree.see_some(os.path.join(path, folder), names)
        states = []
        for name in _GIT_FILES:
            with suppress(OSError):
                facts = os.stat(os.path.join(path, ".git", name))
                states.append(f"{name} {facts.st_ino} {facts.st_size} {facts.st_mtime_ns}")
        return path, "\n".join([self._fingerprints.look(tree.see), *states]), tree

    async def _commit(self, path: str) -> Pin | None:
        if not os.path.exists(os.path.join(path, ".git")):
            return None
        revision = await self._git.work_tree(path)
        if revision is None:
            return None
        return Commit(path, revision, await self._git.origin(path))


@implementer(IResolver)
class ConfiguredResolver:
    """A source whose set takes a configuration, which may be edited."""

    def __init__(
        self, reactor: IReactor, resolver: IResolver, configuration: Configuration
    ) -> None:
        self._reactor = reactor
        self._resolver = resolver
        self._configuration = configuration
        self._fingerprints = Fingerprints(configuration.overlays or "/")
        self._turn = Slots()
        self._seen: _Seen[Configuration] | None = None

    async def resolve(self, tag: str, client: str = "") -> PinnedSource:
        pinned = await self._resolver.resolve(tag, client)
        return attrs.evolve(pinned, configuration=await self._pin())

    def current(self, tag: str) -> PinnedSource | None:
        pinned, configuration = self._resolver.current(tag), self._current
        if pinned is None or configuration is None:
            return None
        return attrs.evolve(pinned, configuration=configuration)

    async def refresh(self) -> None:
        await self._resolver.refresh()

    async def tags(self) -> list[str]:
        return await self._resolver.tags()

    async def date(self, pinned: PinnedSource) -> int | None:
        return await self._resolver.date(pinned)

    async def unchanged(self, pinned: PinnedSource) -> bool:
        if await self._pin() != pinned.configuration:
            return False
        return await self._resolver.unchanged(pinned)

    async def stop(self) -> None:
        self._seen = None
        await self._resolver.stop()

    @property
    def _current(self) -> Configuration | None:
        if self._configuration.overlays is None:
            return self._configuration
        return _standing(self._seen)

    async def _pin(self) -> Configuration:
        with await self._turn.take():
            if (known := self._current) is not None:
                return known
            old = None if self._seen is None else self._seen.tree
            self._seen = None
            try:
                taken, tree = await in_thread(self._reactor, self._take, old)
            except OSError as error:
                raise SourceUnavailable("the overlays", error.strerror or str(error)) from error
            pinned = attrs.evolve(self._configuration, revision=taken)
            self._seen = _Seen(taken, pinned, tree)
            return pinned

    def _take(self, before: WatchedTree | None) -> tuple[str, WatchedTree]:
        tree = WatchedTree(self._configuration.overlays or "/", self._reactor.seconds, before)
        return self._fingerprints.take(tree.see), tree


def _standing(seen: _Seen[T] | None) -> T | None:
    """What was seen, if that is so still."""
    if seen is None or seen.tree is None or not seen.tree.stands():
        return None
    return seen.pinned
