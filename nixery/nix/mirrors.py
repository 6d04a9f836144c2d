"""Bare repositories of what was fetched from remotes, and the runs of git on them.

A repository is made beside its place and renamed, so each is whole, or not there.
"""

import hashlib
import os
import re
from collections.abc import Callable, Collection, Coroutine, Sequence
from functools import partial
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorThreads
from twisted.logger import Logger

from nixery.model.source import hide_credentials
from nixery.model.text import cut
from nixery.nix.child import Ended
from nixery.nix.disk_faults import full_store, state_faults
from nixery.nix.process import Processes
from nixery.nix.supervisor import remove
from nixery.reactor import in_thread
from nixery.slots import Slot, Slots, Turns

T = TypeVar("T")

ASK_LIMIT = 30.0
"""Seconds that a remote may take to list its branches and tags."""
FETCH_LIMIT = 900.0
"""Seconds that a remote may take to send the objects of a commit."""
_AT_ONCE = 8
"""Processes of git that may fetch at once: a remote that hangs must not gather hundreds."""

# No process of git's own may go on after the one that is waited for.
OPTIONS = ("-c", "gc.autoDetach=false", "-c", "maintenance.autoDetach=false")
_NO_HEAD = "--no-write-fetch-head"
# Looking into a repository that was fetched without files must fetch nothing: git does so of
# itself for any object that is missing, and a server may hand out what no branch reaches. Older
# versions know only the second of the two.
_STAY_HERE = ("env", "GIT_NO_LAZY_FETCH=1", "GIT_ALLOW_PROTOCOL=none")
_NEW, _OLD = ".new", ".old"
"""Suffixes of a repository that is being made, and of one that may be damaged."""
_DAMAGED = re.compile(r"[0-9a-f]{32}\.git" + re.escape(_OLD))
_FILES = re.compile(r"[0-9a-f]{32}\Z")
"""The folders of a commit's files, in the folder ``tmp``."""


class GitFailed(Exception):
    """git ended with an error; the text of this is git's own, without credentials."""


class GitStopped(GitFailed):
    """git was stopped, since it took too much time or memory."""


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
        self._turns: Turns[str] = Turns()

    def start(self) -> None:
        """Remove what an earlier process left unfinished, and log it. Not while another process
        uses the folder. Blocks."""
        names = [name for name in _names(self.folder) if _DAMAGED.fullmatch(name)]
        files = _names(os.path.join(self.folder, "tmp"))
        names += [f"tmp/{name}" for name in files if _FILES.match(name)]
        for name in names:
            remove_all(os.path.join(self.folder, name))
        if names:
            self._log.info(
                "removed from {folder} {count} unfinished checkouts or damaged repositories: "
                "{names}",
                count=len(names),
                folder=self.folder,
                names=" ".join(names[:10]),
            )

    async def turn(self, key: str, client: str = "") -> Slot:
        """Wait until nobody else works on something; clients take turns.

        :param key: names the repository, or the part of the work.
        """
        return await self._turns.take(key, client)

    async def ask(self, *arguments: str) -> str:
        """Run git to ask a remote something.

        :return: the output.
        :raises GitFailed: if it fails.
        """
        return await self._git(("git",), arguments, ASK_LIMIT)

    async def fetch(self, repository: str, what: Sequence[str], client: str = "") -> None:
        """Fetch from a remote into a repository, in its turn.

        :param what: options, ``--``, the URL, and what is wanted.
        :raises GitFailed: if it fails.
        """
        # As a pack, which is there whole or not at all.
        fetch = ("-c", "fetch.unpackLimit=1", "fetch", "--quiet", "--no-tags", _NO_HEAD)
        with await self._fetching.take(client):
            await self.in_thread(lambda: _remove_unfinished(repository))
            await self._git(("git",), (f"--git-dir={repository}", *fetch, *what), FETCH_LIMIT)

    async def look(self, repository: str, *arguments: str, accept: Collection[int] = (0,)) -> str:
        """Run git on the contents of a repository; nothing is fetched.

        :param accept: exit codes that are no failure.
        :return: the output.
        :raises GitFailed: if it fails.
        """
        arguments = (f"--git-dir={repository}", *arguments)
        return await self._git((*_STAY_HERE, "git"), arguments, FETCH_LIMIT, accept)

    async def has(self, repository: str, commit: str) -> bool:
        """Whether a repository holds a commit."""
        there = (f"--git-dir={repository}", "cat-file", "-e", f"{commit}^{{commit}}")
        ended, _ = await self.run([*_STAY_HERE, "git", *OPTIONS, *there], ASK_LIMIT)
        return ended.code == 0

    def path(self, url: str, purpose: str, object_format: str) -> str:
        """The path of a repository, whether it exists or not.

        :param purpose: what of the remote it is for.
        :param object_format: the remote's hash function: no repository holds objects of two.
        """
        other = "" if object_format == "sha1" else f" {object_format}"
        key = f"{url} {purpose}{other}".encode("utf-8", "surrogateescape")
        return os.path.join(self.folder, f"{hashlib.sha256(key).hexdigest()[:32]}.git")

    async def repository(self, url: str, purpose: str, object_format: str) -> str:
        """The path of a repository, which is made if it does not exist: see :meth:`path`."""
        path = self.path(url, purpose, object_format)
        if not os.path.exists(os.path.join(path, "HEAD")):
            new = path + _NEW

            def make_room() -> None:
                os.makedirs(self.folder, mode=0o700, exist_ok=True)
                remove_all(new)

            await self.in_thread(make_room)
            # Versions of git that know one hash function do not know the option either.
            chosen = () if object_format == "sha1" else (f"--object-format={object_format}",)
            command = ["git", "init", "--quiet", "--bare", *chosen, new]
            ended, errors = await self.run(command, ASK_LIMIT)
            if ended.code != 0:
                raise GitFailed(errors)
            await self.in_thread(lambda: _rename([path], _NEW, ""))
        return path

    async def or_anew(
        self, key: str, paths: Sequence[str], work: Callable[[], Coroutine[Any, Any, T]]
    ) -> T:
        """Do some work; should it fail, once more without the repositories that it uses: a power
        cut, or the disk, may have damaged them.

        :param paths: of the repositories.
        """
        there = [path for path in paths if os.path.exists(path)]
        try:
            return await work()
        except GitStopped:
            raise
        except GitFailed as error:
            if not there or full_store(str(error)) is not None:
                raise
        with await self.turn(f"{key} anew"):
            await self.in_thread(lambda: _rename(there, "", _OLD))
            try:
                result = await work()
            except BaseException:
                # They were not damaged; what they hold has its worth while the remote is away.
                await self.in_thread(lambda: _rename(there, _OLD, ""))
                raise
            for path in there:
                await self.in_thread(partial(remove_all, path + _OLD))
            return result

    async def run(self, argv: Sequence[str], limit: float) -> tuple[Ended, str]:
        """Run a program.

        :return: how it ended, and the end of its standard error in one line, without credentials.
        """
        ended = await self._processes.run(argv, limit=limit)
        said = hide_credentials(ended.errors.replace("\n", "; ")).removeprefix("fatal: ")
        return ended, cut(said, 500) or "git gave no reason"

    def in_thread(self, work: Callable[[], T]) -> "Deferred[T]":
        """Work on files in a thread.

        :raises NixUnavailable: for an ``OSError``; ``StorageFull`` if it is for lack of room.
        """
        return in_thread(self._reactor, state_faults()(work))

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
            raise GitStopped(f"git needs more than {self._processes.memory:,} bytes of memory")
        if ended.code not in accept:
            raise GitFailed(errors)
        return ended.output.decode("utf-8", "surrogateescape")


def remove_all(path: str) -> None:
    """Remove what is at a path, however deep its folders are. Blocks."""
    if os.path.lexists(path):
        remove(os.fsencode(path))


def _rename(paths: Sequence[str], before: str, after: str) -> None:
    """Change the suffix of those repositories that exist, in place of others that have it."""
    for path in paths:
        if os.path.exists(path + before):
            remove_all(path + after)
            os.rename(path + before, path + after)


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _remove_unfinished(repository: str) -> None:
    """Remove locks and files of processes of git that were killed; nobody else uses it now."""
    for folder, _, names in os.walk(repository):
        for name in names:
            if name.endswith(".lock") or name.startswith("tmp_"):
                os.unlink(os.path.join(folder, name))
