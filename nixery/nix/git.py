"""git, as far as package sources need it: what a remote has, and the files of a commit."""

import os
import uuid
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, DeferredLock, DeferredSemaphore
from twisted.internet.interfaces import IReactorThreads
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from nixery.model.source import hide_credentials
from nixery.nix.faults import full_store, state_faults
from nixery.nix.lines import LastLines
from nixery.nix.process import Ended, Processes
from nixery.nix.repositories import (
    NEW,
    OLD,
    drop_left,
    drop_unfinished,
    make_room,
    move,
    path_of,
    remove_all,
)

T = TypeVar("T")

ASK_LIMIT = 30.0
"""Seconds that a remote may take to name its revisions."""
FETCH_LIMIT = 900.0
"""Seconds that a remote may take to send what a commit needs."""
_COMMITS_KEPT = 50
_AT_ONCE = 8
"""Processes of git that may talk to remotes at once: one that hangs must not gather hundreds."""

# No process of git's own may go on after the one that is waited for, and none may be asked
# for that a repository's configuration names.
_OPTIONS = ("-c", "gc.autoDetach=false", "-c", "maintenance.autoDetach=false")
_NO_HEAD = "--no-write-fetch-head"
# What a server says that knows the commit not, or gives out none but its branches' tips.
_UNKNOWN = ("not our ref", "couldn't find remote ref", "no such remote ref")
_TIPS_ALONE = ("unadvertised object", "dumb http transport", "does not support shallow")


class GitFailed(Exception):
    """git ended with an error; the text of it is git's own, without credentials."""


class GitStopped(GitFailed):
    """git was ended, since it took too much time or memory."""


class CommitUnknown(Exception):
    """The remote has no such commit."""


class Git:
    """Runs git, with bare repositories of its own in a folder."""

    _log = Logger()

    def __init__(self, reactor: IReactorThreads, processes: Processes, folder: str) -> None:
        """
        :param folder: made when it is needed.
        """
        self._reactor = reactor
        self._processes = processes
        self._folder = folder
        self._slots = DeferredSemaphore(_AT_ONCE)
        self._locks: dict[str, DeferredLock] = {}

    def start(self) -> None:
        """Drop what an earlier process left unfinished, and log it. Not while another process has
        the folder."""
        if gone := drop_left(self._folder):
            self._log.info(
                "removed from {folder} {count} checkouts that were not finished, or repositories "
                "that were damaged: {names}",
                count=len(gone),
                folder=self._folder,
                names=" ".join(gone[:10]),
            )

    async def ls_remote(self, url: str, *names: str, branches: bool = False) -> dict[str, str]:
        """What a remote's full names of revisions stand for.

        :param names: those that are asked for, in full.
        :param branches: ask for all branches and tags instead.
        :return: full name → the id of an object.
        :raises GitFailed: if the remote can't be read.
        """
        options = ("--heads", "--tags") if branches else ()
        arguments = ("ls-remote", "--quiet", *options, "--", url, *names)
        output = await self._slots.run(self._remote, arguments, ASK_LIMIT)
        lines = (line.split("\t", 1) for line in output.splitlines())
        return {fields[1]: fields[0] for fields in lines if len(fields) == 2}

    async def checkout(self, url: str, commit: str) -> str:
        """The files of a commit.

        :return: a folder named ``source``, alone in a folder that is to be given to
            :meth:`discard`.
        :raises CommitUnknown: if the remote has no such commit.
        :raises GitFailed: if it can't be fetched.
        """
        return await self._or_anew(url, ("alone", "all"), lambda: self._checkout(url, commit))

    async def _checkout(self, url: str, commit: str) -> str:
        async with self._lock(url):
            repository = await self._fetch(url, commit)
        place = os.path.join(self._folder, "tmp", uuid.uuid4().hex)
        folder, archive = os.path.join(place, "source"), os.path.join(place, "tar")
        try:
            await self._in_thread(lambda: os.makedirs(folder))
            await self._local(repository, "archive", "--format=tar", "--output", archive, commit)
            ended, errors = await self._run(["tar", "-x", "-f", archive, "-C", folder], FETCH_LIMIT)
            if ended.code != 0:
                raise GitFailed(errors)
            await self._in_thread(lambda: os.unlink(archive))
        except BaseException:
            await self.discard(folder)
            raise
        return folder

    async def discard(self, folder: str) -> None:
        """Delete what :meth:`checkout` made."""
        place = os.path.dirname(folder)
        await self._in_thread(lambda: remove_all(place))

    async def last_of_day(self, url: str, branch: str, start: int, end: int) -> str | None:
        """The last commit on a branch's first-parent line that was made in a span of time.

        Commits alone are fetched, without files, and no older ones than that.

        :param branch: its full name.
        :param start: seconds since 1970; the span begins here.
        :param end: and ends before this.
        :raises GitFailed: if the remote can't tell.
        """
        return await self._or_anew(
            url, (branch,), lambda: self._last_of_day(url, branch, start, end)
        )

    async def _last_of_day(self, url: str, branch: str, start: int, end: int) -> str | None:
        async with self._lock(f"{url} {branch}"):
            repository = await self._repository(url, branch)
            known = await self._between(repository, start, end)
            # What is there already suffices if the line is known to go on after the span.
            if known is None or await self._between(repository, end, None) is None:
                await self._fetch_history(repository, url, branch, start)
                known = await self._between(repository, start, end)
            return known

    async def work_tree(self, folder: str) -> str | None:
        """The commit that a folder's files are, if it is a work tree that has all of them and
        nothing besides: a file that git ignores would be missing from the commit."""
        ask = ("git", *_OPTIONS, "-c", "core.fsmonitor=false", "--no-optional-locks", "-C", folder)
        status = ("status", "--porcelain", "--ignored", "--untracked-files=all", "--no-renames")
        ended, _ = await self._run([*ask, *status], ASK_LIMIT)
        if ended.code != 0 or ended.output.strip():
            return None
        ended, _ = await self._run([*ask, "rev-parse", "--verify", "HEAD^{commit}"], ASK_LIMIT)
        return ended.output.decode("ascii").strip() if ended.code == 0 else None

    async def _or_anew(
        self, url: str, purposes: Sequence[str], work: Callable[[], Coroutine[Any, Any, T]]
    ) -> T:
        """Do something with the repositories of a remote; should that fail, once more without
        what was in them: a power cut, or the disk, may have damaged it."""
        paths = [path_of(self._folder, url, purpose) for purpose in purposes]
        there = [path for path in paths if os.path.exists(path)]
        try:
            return await work()
        except GitStopped:
            raise
        except GitFailed as error:
            if not there or full_store(str(error)) is not None:
                raise
        async with self._lock(f"{url} anew"):
            await self._in_thread(lambda: move(there, "", OLD))
            try:
                result = await work()
            except BaseException:
                # It was not that; what is there is worth something while the remote is away.
                await self._in_thread(lambda: move(there, OLD, ""))
                raise
            for path in there:
                await self._in_thread(partial(remove_all, path + OLD))
            return result

    async def _fetch(self, url: str, commit: str) -> str:
        """Have a commit in a repository, which is returned: it alone where the remote gives it
        out, and else all that is below branches and tags."""
        alone = await self._repository(url, "alone")
        if await self._has(alone, commit):
            return alone
        shallow = ("--depth=1", "--", url, f"+{commit}:refs/nixery/{commit}")
        try:
            await self._slots.run(self._fetch_remote, alone, shallow)
        except GitFailed as error:
            text = str(error)
            if any(words in text for words in _UNKNOWN):
                raise CommitUnknown(commit) from error
            if not any(words in text for words in _TIPS_ALONE):
                raise
            return await self._fetch_all(url, commit)
        if not await self._has(alone, commit):
            raise CommitUnknown(commit)
        await self._forget_old(alone, f"refs/nixery/{commit}")
        return alone

    async def _forget_old(self, repository: str, newest: str) -> None:
        """Leave the oldest commits to git's own garbage collection, which comes with fetching."""
        order = ("--sort=-committerdate", "--format=%(refname)", "refs/nixery/")
        names = (await self._local(repository, "for-each-ref", *order)).split()
        for name in names[_COMMITS_KEPT:]:
            if name != newest:
                await self._local(repository, "update-ref", "-d", name)

    async def _fetch_all(self, url: str, commit: str) -> str:
        repository = await self._repository(url, "all")
        if not await self._has(repository, commit):
            every = ("--", url, "+refs/heads/*:refs/remotes/*", "+refs/tags/*:refs/tags/*")
            await self._slots.run(self._fetch_remote, repository, every)
            if not await self._has(repository, commit):
                raise CommitUnknown(commit)
        return repository

    async def _fetch_history(self, repository: str, url: str, branch: str, since: int) -> None:
        what = (f"--shallow-since={since}", "--filter=tree:0", "--", url, f"+{branch}:{branch}")
        try:
            await self._slots.run(self._fetch_remote, repository, what)
        except GitFailed as error:
            # There are none since then: git has no kinder words for it.
            if "no commits selected" not in str(error) and "shallow info" not in str(error):
                raise

    async def _between(self, repository: str, start: int, end: int | None) -> str | None:
        span = [f"--since={start}", *([f"--before={end - 1}"] if end is not None else [])]
        line = ("rev-list", "--first-parent", "--max-count=1", *span, "--all")
        return (await self._local(repository, *line)).strip() or None

    async def _has(self, repository: str, commit: str) -> bool:
        arguments = (f"--git-dir={repository}", "cat-file", "-e", f"{commit}^{{tree}}")
        ended, _ = await self._run(["git", *_OPTIONS, *arguments], ASK_LIMIT)
        return ended.code == 0

    async def _repository(self, url: str, purpose: str) -> str:
        """A bare repository for what is fetched from a remote."""
        path = path_of(self._folder, url, purpose)
        if not os.path.exists(os.path.join(path, "HEAD")):
            new = path + NEW
            await self._in_thread(lambda: make_room(new))
            ended, errors = await self._run(["git", "init", "--quiet", "--bare", new], ASK_LIMIT)
            if ended.code != 0:
                raise GitFailed(errors)
            await self._in_thread(lambda: move([path], NEW, ""))
        return path

    def _lock(self, key: str) -> DeferredLock:
        return self._locks.setdefault(key, DeferredLock())

    async def _fetch_remote(self, repository: str, what: Sequence[str]) -> str:
        await self._in_thread(lambda: drop_unfinished(repository))
        # As a pack, which is there whole or not at all.
        fetch = ("-c", "fetch.unpackLimit=1", "fetch", "--quiet", "--no-tags", _NO_HEAD)
        return await self._remote((f"--git-dir={repository}", *fetch, *what), FETCH_LIMIT)

    async def _local(self, repository: str, *arguments: str) -> str:
        return await self._remote((f"--git-dir={repository}", *arguments), FETCH_LIMIT)

    async def _remote(self, arguments: Sequence[str], limit: float) -> str:
        ended, errors = await self._run(["git", *_OPTIONS, *arguments], limit)
        if ended.timed_out:
            raise GitStopped(f"no answer within {limit:.0f} s")
        if ended.outgrown:
            raise GitStopped(f"it takes more than {self._processes.memory:,} bytes of memory")
        if ended.code != 0:
            raise GitFailed(errors)
        return ended.output.decode("utf-8", "surrogateescape")

    async def _run(self, argv: Sequence[str], limit: float) -> tuple[Ended, str]:
        errors = LastLines()
        ended = await self._processes.run(argv, errors.take, limit)
        return ended, _reason(errors.text(b"; "))

    def _in_thread(self, work: Callable[[], T]) -> "Deferred[T]":
        return deferToThreadPool(self._reactor, self._reactor.getThreadPool(), state_faults()(work))


def _reason(text: str) -> str:
    return hide_credentials(text).removeprefix("fatal: ")[:500] or "git gave no reason"
