"""Garbage collector roots: folders of links into the store, one folder for each image."""

import hashlib
import os
import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from twisted.internet.interfaces import IReactorThreads
from twisted.logger import Logger

from nixery.model.errors import NixeryError
from nixery.nix.commands import Commands
from nixery.reactor import in_thread

_NAME = re.compile(r"[0-9a-f]{32}")


def is_roots(name: str) -> bool:
    """Whether a name has the form that such folders have."""
    return _NAME.fullmatch(name) is not None


def remove_roots(folder: str) -> bool:
    """Remove such a folder. What is no link stays, and so does the folder then. Blocks.

    :return: whether the folder is gone.
    """
    with suppress(OSError):
        for entry in os.scandir(folder):
            if entry.is_symlink():
                os.unlink(entry.path)
        os.rmdir(folder)
        return True
    return False


class KeptRoots:
    """The roots of images that were made, with the time of their last use: what these share with
    images to come stays in the store."""

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
        :param days: for which roots are kept after their last use; 0 keeps none.
        :param now: seconds since the epoch.
        """
        self._reactor = reactor
        self._commands = commands
        self._folder = folder
        self._days = days
        self._now = now

    async def keep(self, paths: Sequence[str]) -> None:
        """Keep store paths that have other roots at the moment, from now on."""
        if self._days == 0:
            return
        name = hashlib.sha256("\n".join(sorted(paths)).encode("utf-8")).hexdigest()[:32]
        folder = os.path.join(self._folder, name)
        try:
            if not await in_thread(self._reactor, self._touch, folder):
                await self._commands.keep(sorted(paths), os.path.join(folder, "root"))
                await in_thread(self._reactor, self._touch, folder)
        except (NixeryError, OSError) as error:
            self._log.warn(
                "{count} store paths are not kept: {error}", count=len(paths), error=error
            )

    async def expire(self) -> int:
        """Drop the roots of images that were not needed for long, and dangling ones: if their
        store was deleted and the paths came back, Nix would not know them.

        :return: the number of images.
        """

        def drop() -> int:
            old = self._drop(self._now() - self._days * 86400)
            return old + _remove([path for _, path in self._ages() if not self._is_whole(path)])

        return await in_thread(self._reactor, drop)

    async def drop_oldest(self) -> int:
        """Drop the roots of half of the images: those that were not needed for longest.

        :return: the number of images.
        """

        def drop() -> int:
            ages = self._ages()
            return self._drop(ages[len(ages) // 2][0]) if ages else 0

        return await in_thread(self._reactor, drop)

    def _touch(self, folder: str) -> bool:
        """Mark an image as needed now.

        :return: whether it has roots already.
        """
        os.makedirs(folder, exist_ok=True)
        os.utime(folder, (self._now(), self._now()))
        return bool(os.listdir(folder))

    def _ages(self) -> list[tuple[float, str]]:
        with suppress(FileNotFoundError):
            folders = (each for each in os.scandir(self._folder) if is_roots(each.name))
            return sorted((each.stat().st_mtime, each.path) for each in folders)
        return []

    def _drop(self, before: float) -> int:
        return _remove([path for used, path in self._ages() if used <= before])

    def _is_whole(self, folder: str) -> bool:
        """Whether no root is dangling; an image without roots may be in the making."""
        store = self._commands.store or ""
        with suppress(OSError):
            links = [os.path.join(folder, name) for name in os.listdir(folder)]
            return all(os.path.lexists(store + os.readlink(link)) for link in links)
        return True


def _remove(folders: Sequence[str]) -> int:
    for folder in folders:
        remove_roots(folder)
    return len(folders)
