"""A folder of this machine as a package source: its contents are its revision."""

import os
import re
from contextlib import suppress

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorThreads
from zope.interface import implementer

from nixery.coalesce import Coalescer
from nixery.interfaces import IResolver
from nixery.model.request_errors import UnknownTag
from nixery.model.service_errors import SourceUnavailable
from nixery.model.source import (
    Commit,
    Configuration,
    Contents,
    LocalFolder,
    Pin,
    PinnedSource,
    hide_place,
)
from nixery.model.tags import LATEST
from nixery.nix.fingerprint import Fingerprints
from nixery.nix.git import Git
from nixery.nix.mirrors import GitFailed
from nixery.reactor import in_thread
from nixery.slots import Slots

_STORE_PATH = re.compile(r"/nix/store/[0-9a-z]{32}-[^/]+")
# Files that git changes when another commit is checked out, a commit is made, or the origin is
# set.
_GIT_FILES = ("HEAD", "config", "index", "logs/HEAD", "packed-refs", "info/exclude")


@attrs.frozen
class _Seen:
    look: str
    pin: Pin


@implementer(IResolver)
class FolderResolver:
    """A folder has one tag, ``latest``: its contents at the moment.

    The revision of a store path is the path; that of a git work tree with exactly the files of its
    commit, the commit; that of any other folder, a fingerprint of its contents.
    """

    def __init__(self, reactor: IReactorThreads, git: Git, source: LocalFolder) -> None:
        self._reactor = reactor
        self._git = git
        self._source = source
        self._fingerprints = Fingerprints(source.path)
        self._turn = Slots()
        self._looking: Coalescer[int, Pin] = Coalescer()
        self._next = 0  # the number of the next look
        self._seen: _Seen | None = None

    async def resolve(self, tag: str, client: str = "") -> PinnedSource:
        if tag != LATEST:
            raise UnknownTag(tag, f"{self._source}, whose only tag is {LATEST!r}")
        return PinnedSource(self._source, await self._pinned())

    def current(self, tag: str) -> PinnedSource | None:
        return None

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
        if not isinstance(pinned.pin, Contents):
            return True
        return await self._pinned() == pinned.pin

    async def stop(self) -> None:
        await self._looking.stop()

    def _pinned(self) -> "Deferred[Pin]":
        """The revision at this moment.

        Requests that come during a look share the next one: the look that has begun may have
        missed a change since.
        """
        return self._looking.join(self._next, self._look_in_turn)

    async def _look_in_turn(self) -> Pin:
        with await self._turn.take():
            self._next += 1
            return await self._pin()

    async def _pin(self) -> Pin:
        try:
            path = os.path.realpath(self._source.path)
            if _STORE_PATH.match(path):
                os.lstat(path)
                return Contents(path, path)
            look = await in_thread(self._reactor, self._look, path)
            if self._seen is None or self._seen.look != look:
                pin = await self._commit(path)
                if pin is None:
                    taken = await in_thread(self._reactor, self._fingerprints.take)
                    pin = Contents(self._source.path, taken)
                self._seen = _Seen(look, pin)
            return self._seen.pin
        except OSError as error:
            raise SourceUnavailable(str(self._source), error.strerror or str(error)) from error

    def _look(self, path: str) -> str:
        """A digest that changes when the files or their commit may have changed."""
        states = []
        for name in _GIT_FILES:
            with suppress(OSError):
                facts = os.stat(os.path.join(path, ".git", name))
                states.append(f"{name} {facts.st_ino} {facts.st_size} {facts.st_mtime_ns}")
        return "\n".join([self._fingerprints.look(), *states])

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
        self, reactor: IReactorThreads, resolver: IResolver, configuration: Configuration
    ) -> None:
        self._reactor = reactor
        self._resolver = resolver
        self._configuration = configuration
        self._fingerprints = Fingerprints(configuration.overlays or "/")
        self._turn = Slots()

    async def resolve(self, tag: str, client: str = "") -> PinnedSource:
        pinned = await self._resolver.resolve(tag, client)
        return attrs.evolve(pinned, configuration=await self._pin())

    def current(self, tag: str) -> PinnedSource | None:
        return None

    async def tags(self) -> list[str]:
        return await self._resolver.tags()

    async def date(self, pinned: PinnedSource) -> int | None:
        return await self._resolver.date(pinned)

    async def unchanged(self, pinned: PinnedSource) -> bool:
        if await self._pin() != pinned.configuration:
            return False
        return await self._resolver.unchanged(pinned)

    async def stop(self) -> None:
        await self._resolver.stop()

    async def _pin(self) -> Configuration:
        if self._configuration.overlays is None:
            return self._configuration
        try:
            with await self._turn.take():
                taken = await in_thread(self._reactor, self._fingerprints.take)
        except OSError as error:
            raise SourceUnavailable("the overlays", error.strerror or str(error)) from error
        return attrs.evolve(self._configuration, revision=taken)
