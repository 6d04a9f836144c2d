"""From a tag to an immutable revision of a git repository, a channel or a flake."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from zope.interface import implementer

from nixery.interfaces import IResolver
from nixery.model.errors import NixUnavailable, SourceUnavailable, TagNotServed, UnknownTag
from nixery.model.source import (
    Channel,
    Commit,
    Flake,
    GitRepository,
    LockedFlake,
    PinnedSource,
    hide_credentials,
    hide_place,
    is_commit,
)
from nixery.model.tags import LATEST, TagPolicy, day_of
from nixery.nix.commands import Commands
from nixery.nix.git import Git, GitFailed
from nixery.nix.remember import Memory

T = TypeVar("T")

_HEADS, _TAGS = "refs/heads/", "refs/tags/"
_LIST = "/tags"  # no tag's name


@implementer(IResolver)
class GitResolver:
    """Branches, tags and commits of a repository, or of nixpkgs for a channel."""

    def __init__(
        self, git: Git, source: GitRepository | Channel, memory: Memory, policy: TagPolicy
    ) -> None:
        self._git = git
        self._source = source
        self._memory = memory
        self._policy = policy

    async def resolve(self, tag: str) -> PinnedSource:
        if not self._policy.allows(tag):
            raise TagNotServed(tag)
        # A channel may be named by a commit.
        own = tag == LATEST and isinstance(self._source, Channel)
        name = self._source.name if own and isinstance(self._source, Channel) else tag
        if is_commit(name):
            return self._pinned(name)
        known = await self._memory.get(name, lambda: self._ask(tag, name))
        return self._pinned(known.text, known.stale)

    async def tags(self) -> list[str]:
        known = await self._memory.get(_LIST, self._list)
        return self._policy.offered(known.text.split("\n"))

    async def unchanged(self, pinned: PinnedSource) -> bool:
        return True

    async def stop(self) -> None:
        await self._memory.stop()

    def _pinned(self, revision: str, stale: bool = False) -> PinnedSource:
        return PinnedSource(self._source, Commit(self._source.url, revision), stale=stale)

    async def _ask(self, tag: str, name: str) -> str:
        source = self._source
        names = (
            ["HEAD"]
            if tag == LATEST and not isinstance(source, Channel)
            # An annotated tag's own id is no commit: the ^{} line names the one it stands on.
            else [f"{_TAGS}{name}", f"{_TAGS}{name}^{{}}", f"{_HEADS}{name}"]
        )
        revisions = await self._remote(lambda: self._git.ls_remote(source.url, *names))
        for full in reversed(names):
            if full in revisions:
                return revisions[full]
        day = day_of(name)
        if day is not None and isinstance(source, Channel) and not is_commit(source.name):
            return await self._last_of_day(tag, source, *day)
        raise UnknownTag(tag, str(source))

    async def _last_of_day(self, tag: str, channel: Channel, start: int, end: int) -> str:
        branch = f"{_HEADS}{channel.name}"
        commit = await self._remote(lambda: self._git.last_of_day(channel.url, branch, start, end))
        if commit is None:
            raise UnknownTag(tag, f"{channel}, which has no commit of that day")
        return commit

    async def _list(self) -> str:
        names = await self._remote(lambda: self._git.ls_remote(self._source.url, branches=True))
        short = (n.removeprefix(_HEADS).removeprefix(_TAGS) for n in names if n[-3:] != "^{}")
        return "\n".join(short)

    async def _remote(self, ask: Callable[[], Awaitable[T]]) -> T:
        try:
            return await ask()
        except GitFailed as error:
            reason = hide_place(self._source, str(error))
            raise SourceUnavailable(str(self._source), reason) from error


@implementer(IResolver)
class FlakeResolver:
    """A flake has one tag, ``latest``: what its reference is locked to."""

    def __init__(self, commands: Commands, source: Flake, memory: Memory) -> None:
        self._commands = commands
        self._source = source
        self._memory = memory

    async def resolve(self, tag: str) -> PinnedSource:
        if tag != LATEST:
            raise UnknownTag(tag, f"{self._source}, which has {LATEST!r} alone")
        known = await self._memory.get(LATEST, self._ask)
        revision, _, reference = known.text.partition(" ")
        return PinnedSource(self._source, LockedFlake(reference, revision), stale=known.stale)

    async def tags(self) -> list[str]:
        return [LATEST]

    async def unchanged(self, pinned: PinnedSource) -> bool:
        return True

    async def stop(self) -> None:
        await self._memory.stop()

    async def _ask(self) -> str:
        try:
            locked = await self._commands.lock(self._source.reference)
        except NixUnavailable as error:
            reason = hide_place(self._source, hide_credentials(error.reason))
            raise SourceUnavailable(str(self._source), reason) from error
        return f"{locked.revision} {locked.reference}"
