"""git, as far as package sources need it: a remote's branches and tags, and a commit's files."""

import os
import uuid
from collections.abc import Sequence

from twisted.internet.interfaces import IReactorThreads

from nixery.model.git_refs import HEAD, HEADS, TAGS, object_format
from nixery.nix.mirrors import ASK_LIMIT, FETCH_LIMIT, OPTIONS, GitFailed, Mirrors, remove_all
from nixery.nix.process import Processes

_COMMITS_KEPT = 50

# Messages of servers without the commit, and of those that send only what branches point to.
_UNKNOWN = ("not our ref", "couldn't find remote ref", "no such remote ref")
_TIPS_ALONE = ("unadvertised object", "dumb http transport", "does not support shallow")


class CommitUnknown(Exception):
    """The remote has no such commit."""


class Git:
    """Runs git, with bare repositories of its own in a folder.

    :ivar mirrors: these repositories.
    """

    def __init__(self, reactor: IReactorThreads, processes: Processes, folder: str) -> None:
        """
        :param folder: made when it is needed.
        """
        self.mirrors = Mirrors(reactor, processes, folder)

    def start(self) -> None:
        """Remove what an earlier process left unfinished. Blocks."""
        self.mirrors.start()

    async def list(self, url: str, head: bool) -> str:
        """A remote's branches and tags, as :meth:`nixery.model.git_refs.Listing.parse` reads them.

        :param head: list HEAD too. The remote sends all its refs then, those of pull requests
            included, which may be many.
        :raises GitFailed: if the remote can't be read.
        """
        what = (
            ("--", url, HEAD, f"{HEADS}*", f"{TAGS}*") if head else ("--heads", "--tags", "--", url)
        )
        return await self.mirrors.ask("ls-remote", "--quiet", *what)

    async def checkout(self, url: str, commit: str) -> str:
        """The files of a commit.

        :return: a folder named ``source``, to be given to :meth:`discard`.
        :raises CommitUnknown: if the remote has no such commit.
        :raises GitFailed: if it can't be fetched.
        """
        copies = self._copies(url, commit)
        return await self.mirrors.or_anew(url, copies, lambda: self._checkout(url, commit))

    async def _checkout(self, url: str, commit: str) -> str:
        with await self.mirrors.turn(url):
            repository = await self._fetch(url, commit)
        place = os.path.join(self.mirrors.folder, "tmp", uuid.uuid4().hex)
        folder, archive = os.path.join(place, "source"), os.path.join(place, "tar")
        try:
            await self.mirrors.in_thread(lambda: os.makedirs(folder))
            to_tar = ("archive", "--format=tar", "--output", archive, commit)
            await self.mirrors.look(repository, *to_tar)
            from_tar = ["tar", "-x", "-f", archive, "-C", folder]
            ended, errors = await self.mirrors.run(from_tar, FETCH_LIMIT)
            if ended.code != 0:
                raise GitFailed(errors)
            await self.mirrors.in_thread(lambda: os.unlink(archive))
        except BaseException:
            await self.discard(folder)
            raise
        return folder

    async def date(self, url: str, commit: str) -> int | None:
        """The committer date of a commit, in seconds since 1970.

        Nothing is fetched for it after a :meth:`checkout`.

        :return: nothing for a commit without one.
        :raises GitFailed: if it can't be fetched.
        """

        async def look() -> int | None:
            with await self.mirrors.turn(url):
                repository = await self._fetch(url, commit)
            only = ("rev-list", "--no-walk", "--format=date %ct", commit)
            date = (await self.mirrors.look(repository, *only)).rpartition("date ")[2].strip()
            return int(date) if date.isdecimal() else None

        try:
            return await self.mirrors.or_anew(url, self._copies(url, commit), look)
        except CommitUnknown as error:
            raise GitFailed(f"there is no commit {error} in it any more") from error

    def _copies(self, url: str, commit: str) -> Sequence[str]:
        """The repositories in which a commit may be."""
        hashes = object_format(commit)
        return [self.mirrors.path(url, purpose, hashes) for purpose in ("alone", "all")]

    async def discard(self, folder: str) -> None:
        """Delete what :meth:`checkout` made."""
        place = os.path.dirname(folder)
        await self.mirrors.in_thread(lambda: remove_all(place))

    async def last_of_day(
        self, url: str, branch: str, start: int, end: int, tip: str, client: str
    ) -> str | None:
        """The last commit on a branch's first-parent line that was made in a span of time.

        Only commits are fetched, without files, and none older than that.

        :param branch: its full name.
        :param start: seconds since 1970; the span begins here.
        :param end: and ends before this.
        :param tip: the commit that the branch points to.
        :param client: who asks: clients take turns.
        :raises GitFailed: if the remote can't be read.
        """
        hashes = object_format(tip)

        async def look() -> str | None:
            repository = await self.mirrors.repository(url, branch, hashes)
            known = await self._between(repository, start, end)
            # This suffices if there is a later commit on the line.
            if known is None or await self._between(repository, end, None) is None:
                await self._fetch_since(repository, url, branch, start, client)
                known = await self._between(repository, start, end)
            return known

        key = f"{url} {branch}"
        with await self.mirrors.turn(key, client):
            return await self.mirrors.or_anew(key, [self.mirrors.path(url, branch, hashes)], look)

    async def work_tree(self, folder: str) -> str | None:
        """The commit of a folder, if it is a work tree with exactly the commit's files: a file
        that git ignores would be missing from the commit."""
        ask = ("git", *OPTIONS, "-c", "core.fsmonitor=false", "--no-optional-locks", "-C", folder)
        status = ("status", "--porcelain", "--ignored", "--untracked-files=all", "--no-renames")
        ended, _ = await self.mirrors.run([*ask, *status], ASK_LIMIT)
        if ended.code != 0 or ended.output.strip():
            return None
        at_head = ("rev-parse", "--verify", "HEAD^{commit}")
        ended, _ = await self.mirrors.run([*ask, *at_head], ASK_LIMIT)
        return ended.output.decode("ascii").strip() if ended.code == 0 else None

    async def origin(self, folder: str) -> str:
        """The URL that a work tree was cloned from, with credentials that may be in it.

        :return: an empty string if there is none.
        """
        asked = ("config", "--local", "--get", "remote.origin.url")
        ended, _ = await self.mirrors.run(["git", *OPTIONS, "-C", folder, *asked], ASK_LIMIT)
        return ended.output.decode("utf-8", "surrogateescape").strip() if ended.code == 0 else ""

    async def _fetch(self, url: str, commit: str) -> str:
        """Fetch a commit: it alone where the remote sends it, and else the history of all branches
        and tags.

        :return: the repository that holds it.
        """
        alone = await self.mirrors.repository(url, "alone", object_format(commit))
        if await self.mirrors.has(alone, commit):
            return alone
        shallow = ("--depth=1", "--", url, f"+{commit}:refs/nixery/{commit}")
        try:
            await self.mirrors.fetch(alone, shallow)
        except GitFailed as error:
            text = str(error)
            if any(words in text for words in _UNKNOWN):
                raise CommitUnknown(commit) from error
            if not any(words in text for words in _TIPS_ALONE):
                raise
            return await self._fetch_all(url, commit)
        if not await self.mirrors.has(alone, commit):
            raise CommitUnknown(commit)
        await self._forget_old(alone, f"refs/nixery/{commit}")
        return alone

    async def _forget_old(self, repository: str, newest: str) -> None:
        """Leave the oldest commits to git's garbage collection, which runs after fetches."""
        order = ("--sort=-committerdate", "--format=%(refname)", "refs/nixery/")
        names = (await self.mirrors.look(repository, "for-each-ref", *order)).split()
        for name in names[_COMMITS_KEPT:]:
            if name != newest:
                await self.mirrors.look(repository, "update-ref", "-d", name)

    async def _fetch_all(self, url: str, commit: str) -> str:
        repository = await self.mirrors.repository(url, "all", object_format(commit))
        if not await self.mirrors.has(repository, commit):
            every = ("--", url, f"+{HEADS}*:refs/remotes/*", f"+{TAGS}*:{TAGS}*")
            await self.mirrors.fetch(repository, every)
            if not await self.mirrors.has(repository, commit):
                raise CommitUnknown(commit)
        return repository

    async def _fetch_since(
        self, repository: str, url: str, branch: str, since: int, client: str
    ) -> None:
        what = (f"--shallow-since={since}", "--filter=tree:0", "--", url, f"+{branch}:{branch}")
        try:
            await self.mirrors.fetch(repository, what, client)
        except GitFailed as error:
            # There are none since then, which git calls an error.
            if "no commits selected" not in str(error) and "shallow info" not in str(error):
                raise

    async def _between(self, repository: str, start: int, end: int | None) -> str | None:
        span = [f"--since={start}", *([f"--before={end - 1}"] if end is not None else [])]
        line = ("rev-list", "--first-parent", "--max-count=1", *span, "--all")
        return (await self.mirrors.look(repository, *line)).strip() or None
