"""Resolves tags to immutable revisions of a git repository, a channel or a flake."""

from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from functools import partial
from typing import TypeVar

from zope.interface import implementer

from nixery.interfaces import IResolver
from nixery.model.git_refs import HEADS, Listing
from nixery.model.request_errors import CommitNotServed, TagNotServed, TooManyTags, UnknownTag
from nixery.model.service_errors import NixUnavailable, SourceUnavailable
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
from nixery.nix.ancestry import Ancestry
from nixery.nix.commands import Commands
from nixery.nix.git import Git
from nixery.nix.mirrors import GitFailed
from nixery.nix.remember import Memory, Remembered
from nixery.recent import Recent

T = TypeVar("T")

_LISTING = "/listing"  # no tag has such a name
_LOCKED = "/locked"
_MOST_ASKED = 256
"""Requests of one client at once: it may leave, but its questions to the remote stay."""
_UNKNOWN_KEPT = 4096
"""Unknown tags that are cached, of a few hundred bytes each."""


@implementer(IResolver)
class GitResolver:
    """Branches, tags and commits of a repository, or of nixpkgs for a channel.

    One listing of the remote's branches and tags, kept for a while, answers all. A request for a
    name that is not in it waits for a listing that is requested later: one for all such requests,
    however many names clients make up.
    """

    def __init__(
        self,
        git: Git,
        source: GitRepository | Channel,
        memory: Memory,
        policy: TagPolicy,
        unreachable: bool = False,
    ) -> None:
        """
        :param policy: which tags are served, and so the histories whose commits are.
        :param unreachable: whether commits outside of these histories are served too.
        """
        self._git = git
        self._source = source
        self._memory = memory
        self._policy = policy
        self._unreachable = unreachable
        self._ancestry = Ancestry(git.mirrors, source.url)
        self._listing = Listing({})
        self._listed = ""
        self._tips: Mapping[str, str] = {}
        self._asking: Counter[str] = Counter()
        self._unknown: Recent[str, UnknownTag] = Recent(memory.now, _UNKNOWN_KEPT)

    async def resolve(self, tag: str, client: str = "") -> PinnedSource:
        if not self._policy.allows(tag):
            raise TagNotServed(tag)
        if (known := self.current(tag)) is not None:
            return known
        if (unknown := self._unknown.get(tag, self._memory.lifetime)) is not None:
            raise copy(unknown)
        with self._place(client):
            try:
                return await self._find(tag, client)
            except UnknownTag as error:
                # Not the error itself: its traceback holds the listing.
                self._unknown.put(tag, copy(error))
                raise

    def current(self, tag: str) -> PinnedSource | None:
        if not self._policy.allows(tag):
            return None
        name, lifetime = self._name(tag), self._memory.lifetime
        if is_commit(name):
            # A channel may be named by a commit.
            if self._unreachable or name == self._own:
                return self._pinned(name)
            known = self._memory.fresh(name)
            return None if known is None else self._pinned(known.text)
        listed = self._memory.fresh(_LISTING)
        if listed is None or listed.text != self._listed or self._unknown.get(tag, lifetime):
            return None
        if (commit := self._named(self._listing, tag, name)) is not None:
            return self._pinned(commit, listed.stale)
        known = None if self._day(name) is None else self._memory.fresh(name)
        return None if known is None else self._pinned(known.text, known.stale)

    async def refresh(self) -> None:
        await self._list(self._memory.now())
        self._unknown = Recent(self._memory.now, _UNKNOWN_KEPT)

    async def tags(self) -> list[str]:
        listing, _ = await self._list()
        return self._policy.offered(sorted(listing.names))

    async def date(self, pinned: PinnedSource) -> int | None:
        return await self._remote(partial(self._git.date, self._source.url, pinned.revision))

    async def unchanged(self, pinned: PinnedSource) -> bool:
        return True

    async def stop(self) -> None:
        await self._memory.stop()

    @contextmanager
    def _place(self, client: str) -> Iterator[None]:
        if self._asking[client] >= _MOST_ASKED:
            raise TooManyTags(self._asking[client])
        self._asking[client] += 1
        try:
            yield
        finally:
            self._asking[client] -= 1
            if not self._asking[client]:
                del self._asking[client]

    @property
    def _own(self) -> str | None:
        """The name of the channel that is the source."""
        return self._source.name if isinstance(self._source, Channel) else None

    def _name(self, tag: str) -> str:
        """The name of a tag in the repository."""
        return self._own or tag if tag == LATEST else tag

    async def _find(self, tag: str, client: str) -> PinnedSource:
        name = self._name(tag)
        if is_commit(name):
            known = await self._memory.get(name, lambda: self._reached(name, client))
            return self._pinned(known.text)
        since = self._memory.now()
        listing, known = await self._list()
        commit = self._named(listing, tag, name)
        if commit is None and (day := self._day(name)) is not None:
            return await self._last_of_day(listing, name, day, client)
        if commit is None and known.since < since:
            listing, known = await self._list(since)
            commit = self._named(listing, tag, name)
        if commit is None:
            raise UnknownTag(tag, str(self._source))
        return self._pinned(commit, known.stale)

    def _named(self, listing: Listing, tag: str, name: str) -> str | None:
        of_head = tag == LATEST and not isinstance(self._source, Channel)
        return listing.head if of_head else listing.commit(name)

    async def _reached(self, commit: str, client: str) -> str:
        """The commit of an object's id, if a served branch or tag reaches it."""
        since = self._memory.now()
        listing, known = await self._list()
        if commit in self._tips:
            return self._tips[commit]
        # First what needs no fetch; then a listing that is newer than a push may be.
        if self._ancestry.is_of(listing) and await self._reaches(commit, client):
            return commit
        if known.since < since:
            await self._list(since)
            if commit in self._tips:
                return self._tips[commit]
        if await self._reaches(commit, client):
            return commit
        raise CommitNotServed(commit, str(self._source))

    def _serves(self, name: str) -> bool:
        return name == self._own or self._policy.allows(name)

    async def _reaches(self, commit: str, client: str) -> bool:
        tips = self._tips.values()
        ask = partial(self._ancestry.reaches, commit, self._listing, tips, client)
        return await self._remote(ask)

    def _day(self, name: str) -> tuple[int, int] | None:
        """The day that a channel's name stands for, if it is one."""
        dated = isinstance(self._source, Channel) and not is_commit(self._source.name)
        return day_of(name) if dated else None

    async def _last_of_day(
        self, listing: Listing, name: str, day: tuple[int, int], client: str
    ) -> PinnedSource:
        source = self._source
        assert isinstance(source, Channel)

        async def ask() -> str:
            tip = listing.commit(source.name)
            commit = None
            if tip is not None:
                branch = f"{HEADS}{source.name}"
                look = partial(self._git.last_of_day, source.url, branch, *day, tip, client)
                commit = await self._remote(look)
            if commit is None:
                raise UnknownTag(name, f"{source}, which has no commit of that day")
            return commit

        known = await self._memory.get(name, ask)
        return self._pinned(known.text, known.stale)

    async def _list(self, since: float | None = None) -> tuple[Listing, Remembered]:
        """The remote's branches and tags, and the answer that they are from.

        :param since: the remote must have been asked at this time or later.
        """

        async def ask() -> str:
            head = not isinstance(self._source, Channel)
            return await self._remote(partial(self._git.list, self._source.url, head))

        if since is None:
            known = await self._memory.get(_LISTING, ask)
        else:
            known = await self._memory.newer(_LISTING, since, ask)
        if known.text != self._listed:
            self._listing, self._listed = Listing.parse(known.text), known.text
            self._tips = self._listing.tips(self._serves)
        return self._listing, known

    def _pinned(self, revision: str, stale: bool = False) -> PinnedSource:
        return PinnedSource(self._source, Commit(self._source.url, revision), stale=stale)

    async def _remote(self, ask: Callable[[], Awaitable[T]]) -> T:
        try:
            return await ask()
        except GitFailed as error:
            reason = hide_place(self._source, str(error))
            raise SourceUnavailable(str(self._source), reason) from error


@implementer(IResolver)
class FlakeResolver:
    """A flake has one tag, ``latest``: the revision that its reference is locked to."""

    def __init__(self, commands: Commands, source: Flake, memory: Memory) -> None:
        self._commands = commands
        self._source = source
        self._memory = memory

    async def resolve(self, tag: str, client: str = "") -> PinnedSource:
        if tag != LATEST:
            raise UnknownTag(tag, f"{self._source}, whose only tag is {LATEST!r}")
        return self._pinned(await self._memory.get(_LOCKED, self._ask))

    def current(self, tag: str) -> PinnedSource | None:
        known = self._memory.fresh(_LOCKED) if tag == LATEST else None
        return None if known is None else self._pinned(known)

    async def refresh(self) -> None:
        await self._memory.newer(_LOCKED, self._memory.now(), self._ask)

    async def tags(self) -> list[str]:
        return [LATEST]

    async def date(self, pinned: PinnedSource) -> int | None:
        return pinned.pin.date if isinstance(pinned.pin, LockedFlake) else None

    async def unchanged(self, pinned: PinnedSource) -> bool:
        return True

    async def stop(self) -> None:
        await self._memory.stop()

    def _pinned(self, known: Remembered) -> PinnedSource:
        revision, date, reference = known.text.split(" ", 2)
        pin = LockedFlake(reference, revision, int(date) if date else None)
        return PinnedSource(self._source, pin, stale=known.stale)

    async def _ask(self) -> str:
        try:
            locked = await self._commands.lock(self._source.reference)
        except NixUnavailable as error:
            reason = hide_place(self._source, hide_credentials(error.reason))
            raise SourceUnavailable(str(self._source), reason) from error
        date = "" if locked.date is None else locked.date
        return f"{locked.revision} {date} {locked.reference}"
