"""Garbage collector roots of images that were made: what they share with others to come stays."""

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorThreads
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from nixery.model.errors import NixeryError
from nixery.nix.commands import Commands
from nixery.nix.roots import is_roots, remove_roots


class KeptRoots:
    """A folder of roots for each image, with the time of its last use."""

    _log = Logger()

    def __init__(
        self,
        reactor: IReactorThreads,
        commands: Commands,
        folder: str,
        days: float,
        now: Callable[[], float] = time.time,
    ) -> None:
        """
        :param days: that roots are kept; 0 for none.
        :param now: seconds since the epoch.
        """
        self._reactor = reactor
        self._commands = commands
        self._folder = folder
        self._days = days
        self._now = now

    async def keep(self, paths: Sequence[str]) -> None:
        """Keep store paths that are rooted elsewhere at the moment, from now on."""
        if self._days == 0:
            return
        name = hashlib.sha256("\n".join(sorted(paths)).encode("utf-8")).hexdigest()[:32]
        folder = os.path.join(self._folder, name)
        try:
            if not await self._in_thread(lambda: self._touch(folder)):
                await self._commands.keep(sorted(paths), os.path.join(folder, "root"))
                await self._in_thread(lambda: self._touch(folder))
        except (NixeryError, OSError) as error:
            self._log.warn(
                "{count} store paths are not kept: {error}", count=len(paths), error=error
            )

    async def expire(self) -> int:
        """Drop the roots of images that were not needed for long, and those that lead nowhere: of
        a store that was deleted, Nix knows them no more, and would not if the paths came back.

        :return: how many images.
        """
        return await self._in_thread(
            lambda: self._drop(self._now() - self._days * 86400) + self._drop_dangling()
        )

    async def drop_oldest(self) -> int:
        """Drop the roots of the half of all images that were not needed for longest.

        :return: how many images.
        """

        def drop() -> int:
            ages = self._ages()
            return self._drop(ages[len(ages) // 2][0]) if ages else 0

        return await self._in_thread(drop)

    def _touch(self, folder: str) -> bool:
        """Mark an image as needed now; whether it has roots already."""
        os.makedirs(folder, exist_ok=True)
        os.utime(folder, (self._now(), self._now()))
        return bool(os.listdir(folder))

    def _ages(self) -> list[tuple[float, str]]:
        with suppress(FileNotFoundError):
            folders = (each for each in os.scandir(self._folder) if is_roots(each.name))
            return sorted((each.stat().st_mtime, each.path) for each in folders)
        return []

    def _drop(self, before: float) -> int:
        old = [path for used, path in self._ages() if used <= before]
        for path in old:
            remove_roots(path)
        return len(old)

    def _drop_dangling(self) -> int:
        dangling = [path for _, path in self._ages() if not self._is_whole(path)]
        for path in dangling:
            remove_roots(path)
        return len(dangling)

    def _is_whole(self, folder: str) -> bool:
        """Whether all that an image's roots lead to is there; one without may be in the making."""
        store = self._commands.store or ""
        with suppress(OSError):
            links = [os.path.join(folder, name) for name in os.listdir(folder)]
            return all(os.path.lexists(store + os.readlink(link)) for link in links)
        return True

    def _in_thread(self, work: Callable[[], int]) -> "Deferred[int]":
        return deferToThreadPool(self._reactor, self._reactor.getThreadPool(), work)
