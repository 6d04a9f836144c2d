"""Which commits a repository's branches and tags reach."""

import time
from collections.abc import Collection, Sequence

from nixery.model.git_refs import HEAD, HEADS, TAGS, Listing
from nixery.nix.mirrors import GitFailed, Mirrors
from nixery.recent import Recent

_ANSWERS = 4096
"""Answers that are remembered, of a few hundred bytes each."""
_AT_ONCE = 1000
"""Ids that fit on one command line, whatever the system's limit."""
_NO_BASE = 1
"""How ``git merge-base`` ends if two commits have no ancestor in common."""
_LEFT_OUT = 20
"""Tags that may stand for a tree: each costs one more try to fetch."""


class Ancestry:
    """A copy of a remote's history: the commits of all its branches and tags, without files where
    the server can leave them out. No package set is ever read from it.

    Only names that the remote lists are fetched, so that nothing of a fork or a pull request
    comes in; and a commit counts as reached by what it is an ancestor of, not by being here.
    """

    def __init__(self, mirrors: Mirrors, url: str) -> None:
        self._mirrors = mirrors
        self._url = url
        self._wanted: tuple[Listing, Collection[str]] = Listing({}), ()
        self._followed: Listing | None = None
        self._tips: Sequence[str] = ()
        self._answers: Recent[str, bool] = Recent(time.monotonic, _ANSWERS)

    def is_of(self, listing: Listing) -> bool:
        """Whether questions on a listing need nothing fetched."""
        return self._followed is listing

    async def reaches(
        self, commit: str, listing: Listing, tips: Collection[str], client: str
    ) -> bool:
        """Whether a commit is an ancestor of any tip, or is one.

        The first question has the whole history fetched; one on a listing that has changed since
        the last question, what is new.

        :param commit: its full id.
        :param listing: where the tips are from.
        :param tips: ids of objects; those that are no commits reach nothing.
        :param client: who asks: clients take turns.
        :raises GitFailed: if the history can't be had.
        """
        if self.is_of(listing) and (known := self._answers.get(commit)) is not None:
            return known
        self._wanted = listing, tips
        path = self._mirrors.path(self._url, "history", listing.object_format)

        async def look() -> bool:
            try:
                # Who has waited long may have come with a listing that is old by now.
                await self._follow(*self._wanted)
                return await self._look(path, commit)
            except GitFailed:
                self._followed = None
                raise

        async with self._mirrors.turn(path, client):
            return await self._mirrors.or_anew(path, [path], look)

    async def _follow(self, listing: Listing, tips: Collection[str]) -> None:
        """Have what a listing's branches and tags stand for."""
        if self.is_of(listing):
            return
        self._followed = None
        hashes = listing.object_format
        repository = await self._mirrors.repository(self._url, "history", hashes)
        trees = await self._fetch(repository, listing)
        await self._mirrors.look(repository, "pack-refs", "--all")  # else each is a file
        self._tips = await self._commits(repository, sorted(set(tips) - trees))
        self._answers = Recent(time.monotonic, _ANSWERS)
        self._followed = listing

    async def _fetch(self, repository: str, listing: Listing) -> set[str]:
        """Fetch what a listing names.

        :return: ids that its tags stand for and that are left out, since they are those of trees.
        """
        names = [f"+{HEADS}*:{HEADS}*", f"+{TAGS}*:{TAGS}*"]
        if listing.detached:
            names.append(f"+{HEAD}:refs/nixery/{HEAD}")
        options = ("--prune", "--write-commit-graph", "--filter=tree:0", "--", self._url)
        left_out: set[str] = set()
        while True:
            without = (f"^{name}" for name in sorted(left_out))
            try:
                await self._mirrors.fetch(repository, (*options, *names, *without))
                return {id for name in left_out for id in listing.of(name)}
            except GitFailed as error:
                # git 2.39 refuses what it is sent if a tag stands for a tree, which the filter
                # leaves out; it says which.
                trees = listing.named(str(error))
                if trees <= left_out or len(left_out) >= _LEFT_OUT:
                    raise
                left_out |= trees

    async def _commits(self, repository: str, ids: Sequence[str]) -> Sequence[str]:
        """Those of some ids that are commits which are here."""
        commits: list[str] = []
        for start in range(0, len(ids), _AT_ONCE):
            some = ids[start : start + _AT_ONCE]
            only = ("rev-list", "--no-walk=unsorted", "--ignore-missing", *some)
            commits += (await self._mirrors.look(repository, *only)).split()
        return commits

    async def _look(self, repository: str, commit: str) -> bool:
        known = self._answers.get(commit)
        if known is None:
            known = await self._is_ancestor(repository, commit)
            self._answers.put(commit, known)
        return known

    async def _is_ancestor(self, repository: str, commit: str) -> bool:
        if not self._tips:
            return False
        if not await self._mirrors.has(repository, commit):
            # git tells a commit that is not here from one that it can't read by no code.
            if not await self._mirrors.has(repository, self._tips[0]):
                raise GitFailed("the copy of its history is damaged")
            return False
        for start in range(0, len(self._tips), _AT_ONCE):
            # The best common ancestor of a commit and of what would be made by merging all tips.
            some = self._tips[start : start + _AT_ONCE]
            base = await self._mirrors.look(
                repository, "merge-base", commit, *some, accept=(0, _NO_BASE)
            )
            if base.strip() == commit:
                return True
        return False
