"""Which commits the branches and tags of a repository reach."""

import time
from collections.abc import Collection, Sequence

from nixery.model.git_refs import HEAD, HEADS, TAGS, Listing
from nixery.nix.mirrors import GitFailed, Mirrors
from nixery.recent import Recent

_ANSWERS = 4096
"""Answers that are cached, of a few hundred bytes each."""
_AT_ONCE = 1000
"""Ids that fit on one command line, whatever the system's limit."""
_NO_BASE = 1
"""Exit code of ``git merge-base`` for two commits without a common ancestor."""
_LEFT_OUT = 20
"""Tags that may point to a tree: each costs one more attempt to fetch."""


class Ancestry:
    """A copy of a remote's history: the commits of all its branches and tags, without files where
    the server supports that. No package set is ever read from it.

    Only refs that the remote lists are fetched, so nothing of a fork or a pull request comes in;
    and a commit is reached if it is an ancestor of a tip, not because it is in the copy.
    """

    def __init__(self, mirrors: Mirrors, url: str) -> None:
        self._mirrors = mirrors
        self._url = url
        self._wanted: tuple[Listing, Collection[str]] = Listing({}), ()
        self._followed: Listing | None = None
        self._tips: Sequence[str] = ()
        self._answers: Recent[str, bool] = Recent(time.monotonic, _ANSWERS)

    def is_of(self, listing: Listing) -> bool:
        """Whether questions about a listing need no fetch."""
        return self._followed is listing

    async def reaches(
        self, commit: str, listing: Listing, tips: Collection[str], client: str
    ) -> bool:
        """Whether a commit is an ancestor of any tip, or is one.

        The first question fetches the whole history; one about a changed listing, the difference.

        :param commit: its full id.
        :param listing: the listing that holds the tips.
        :param tips: ids of objects; those that are no commits reach nothing.
        :param client: clients take turns.
        :raises GitFailed: if the history can't be fetched.
        """
        if self.is_of(listing) and (known := self._answers.get(commit)) is not None:
            return known
        self._wanted = listing, tips
        path = self._mirrors.path(self._url, "history", listing.object_format)

        async def look() -> bool:
            try:
                # After a long wait, this question's own listing may be outdated.
                await self._follow(*self._wanted)
                return await self._look(path, commit)
            except GitFailed:
                self._followed = None
                raise

        with await self._mirrors.turn(path, client):
            return await self._mirrors.or_anew(path, [path], look)

    async def _follow(self, listing: Listing, tips: Collection[str]) -> None:
        """Fetch what a listing's branches and tags point to."""
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

        :return: ids that were left out, since they are those of trees.
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
                # git 2.39 refuses the pack if a tag points to a tree, which the filter leaves out;
                # it names the tag.
                trees = listing.named(str(error))
                if trees <= left_out or len(left_out) >= _LEFT_OUT:
                    raise
                left_out |= trees

    async def _commits(self, repository: str, ids: Sequence[str]) -> Sequence[str]:
        """Those of some ids that are commits in the repository."""
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
            # git has no exit code that tells an unreadable commit from one that is not there.
            if not await self._mirrors.has(repository, self._tips[0]):
                raise GitFailed("the local copy of its history is damaged")
            return False
        for start in range(0, len(self._tips), _AT_ONCE):
            # The best common ancestor of the commit and of a merge of all tips.
            some = self._tips[start : start + _AT_ONCE]
            base = await self._mirrors.look(
                repository, "merge-base", commit, *some, accept=(0, _NO_BASE)
            )
            if base.strip() == commit:
                return True
        return False
