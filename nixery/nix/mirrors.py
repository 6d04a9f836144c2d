"""Bare repositories of what was fetched from remotes, and the runs of git on them."""

import os
from collections.abc import Callable, Collection, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorThreads
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from nixery.model.source import hide_credentials
from nixery.model.text import cut
from nixery.nix.disk_faults import full_store, state_faults
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
from nixery.nix.slots import Slots

T = TypeVar("T")

ASK_LIMIT = 30.0
"""Seconds that a remote may take to name its revisions."""
FETCH_LIMIT = 900.0
"""Seconds that a remote may take to send what a commit needs."""
_AT_ONCE = 8
"""Processes of git that may fetch at once: a remote that hangs must not gather hundreds."""

# No process of git's own may go on after the one that is waited for, and none may be asked
# for that a repository's configuration names.
OPTIONS = ("-c", "gc.autoDetach=false", "-c", "maintenance.autoDetach=false")
_NO_HEAD = "--no-write-fetch-head"
# Who only looks into a repository that was fetched without files must not fetch: git does so of
# itself for any object that is missing, and a server may hand out what no branch reaches. Of the
# two, older versions know only the second.
_STAY_HERE = ("env", "GIT_NO_LAZY_FETCH=1", "GIT_ALLOW_PROTOCOL=none")


class GitFailed(Exception):
    """git ended with an error; the text of it is git's own, without credentials."""


class GitStopped(GitFailed):
    """git was ended, since it took too much time or memory."""


class Mirrors:
    """The repositories in a folder, one for each remote and purpose."""

    _log = Logger()

    def __init__(self, reactor: IReactorThreads, processes: Processes, folder: str) -> None:
        """
        :param folder: made when it is needed.
        """
        self.folder = folder
        self._reactor = reactor
        self._processes = processes
        self._fetching = Slots(_AT_ONCE)
        self._locks: dict[str, Slots] = {}

    def start(self) -> None:
        """Drop what an earlier process left unfinished, and log it. Not while another process has
        the folder."""
        if gone := drop_left(self.folder):
            self._log.info(
                "removed from {folder} {count} checkouts that were not finished, or repositories "
                "that were damaged: {names}",
                count=len(gone),
                folder=self.folder,
                names=" ".join(gone[:10]),
            )

    def turn(self, key: str, client: str = "") -> AbstractAsyncContextManager[None]:
        """Wait until nobody else is at something, and be at it; clients take turns.

        :param key: names the repository, or the part of the work, that is meant.
        """
        return self._locks.setdefault(key, Slots()).place(client)

    async def ask(self, *arguments: str) -> str:
        """Run git to ask a remote something.

        :return: the output.
        :raises GitFailed: if it can't.
        """
        return await self._git(("git",), arguments, ASK_LIMIT)

    async def fetch(self, repository: str, what: Sequence[str], client: str = "") -> None:
        """Fetch from a remote into a repository that nobody else is at.

        :param what: options, ``--``, the URL, and what is wanted.
        :raises GitFailed: if it can't be had.
        """
        # As a pack, which is there whole or not at all.
        fetch = ("-c", "fetch.unpackLimit=1", "fetch", "--quiet", "--no-tags", _NO_HEAD)
        async with self._fetching.place(client):
            await self.in_thread(lambda: drop_unfinished(repository))
            await self._git(("git",), (f"--git-dir={repository}", *fetch, *what), FETCH_LIMIT)

    async def look(self, repository: str, *arguments: str, accept: Collection[int] = (0,)) -> str:
        """Run git on what a repository holds; nothing is fetched.

        :param accept: exit codes that are no failure.
        :return: the output.
        :raises GitFailed: if it can't.
        """
        arguments = (f"--git-dir={repository}", *arguments)
        return await self._git((*_STAY_HERE, "git"), arguments, FETCH_LIMIT, accept)

    async def has(self, repository: str, commit: str) -> bool:
        """Whether a repository holds a commit."""
        there = (f"--git-dir={repository}", "cat-file", "-e", f"{commit}^{{commit}}")
        ended, _ = await self.run([*_STAY_HERE, "git", *OPTIONS, *there], ASK_LIMIT)
        return ended.code == 0

    def path(self, url: str, purpose: str, object_format: str) -> str:
        """Where the repository is, or will be, that is for something of a remote.

        :param object_format: the remote's hash function: no repository holds objects of two.
        """
        other = "" if object_format == "sha1" else f" {object_format}"
        return path_of(self.folder, url, f"{purpose}{other}")

    async def repository(self, url: str, purpose: str, object_format: str) -> str:
        """A bare repository for what is fetched from a remote."""
        path = self.path(url, purpose, object_format)
        if not os.path.exists(os.path.join(path, "HEAD")):
            new = path + NEW
            await self.in_thread(lambda: make_room(new))
            # Versions of git that know of no second one do not know the option either.
            chosen = () if object_format == "sha1" else (f"--object-format={object_format}",)
            ended, errors = await self.run(
                ["git", "init", "--quiet", "--bare", *chosen, new], ASK_LIMIT
            )
            if ended.code != 0:
                raise GitFailed(errors)
            await self.in_thread(lambda: move([path], NEW, ""))
        return path

    async def or_anew(
        self, key: str, paths: Sequence[str], work: Callable[[], Coroutine[Any, Any, T]]
    ) -> T:
        """Do something with repositories; should that fail, once more without what was in them: a
        power cut, or the disk, may have damaged it."""
        there = [path for path in paths if os.path.exists(path)]
        try:
            return await work()
        except GitStopped:
            raise
        except GitFailed as error:
            if not there or full_store(str(error)) is not None:
                raise
        async with self.turn(f"{key} anew"):
            await self.in_thread(lambda: move(there, "", OLD))
            try:
                result = await work()
            except BaseException:
                # It was not that; what is there is worth something while the remote is away.
                await self.in_thread(lambda: move(there, OLD, ""))
                raise
            for path in there:
                await self.in_thread(partial(remove_all, path + OLD))
            return result

    async def run(self, argv: Sequence[str], limit: float) -> tuple[Ended, str]:
        """Run a program.

        :return: how it ended, and the last lines of its errors.
        """
        errors = LastLines()
        ended = await self._processes.run(argv, errors.take, limit)
        return ended, _reason(errors.text(b"; "))

    def in_thread(self, work: Callable[[], T]) -> "Deferred[T]":
        """Have files seen to in a thread."""
        return deferToThreadPool(self._reactor, self._reactor.getThreadPool(), state_faults()(work))

    async def _git(
        self,
        program: Sequence[str],
        arguments: Sequence[str],
        limit: float,
        accept: Collection[int] = (0,),
    ) -> str:
        ended, errors = await self.run([*program, *OPTIONS, *arguments], limit)
        if ended.timed_out:
            raise GitStopped(f"no answer within {limit:.0f} s")
        if ended.outgrown:
            raise GitStopped(f"it takes more than {self._processes.memory:,} bytes of memory")
        if ended.code not in accept:
            raise GitFailed(errors)
        return ended.output.decode("utf-8", "surrogateescape")


def _reason(text: str) -> str:
    said = hide_credentials(text).removeprefix("fatal: ")
    return cut(said, 500) or "git gave no reason"
