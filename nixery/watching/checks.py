"""The checks that make up readiness."""

import os
import shutil
from collections.abc import Awaitable, Callable, Mapping

from twisted.internet.interfaces import IReactorThreads

from nixery.interfaces import IStorage, Provenance
from nixery.reactor import in_thread
from nixery.watching.readiness import Check

LEAST_FREE = 64_000_000
"""Bytes of a disk below which the daemon can't do its work."""


def storage_check(storage: IStorage) -> Check:
    """Whether what is stored can be read again."""

    async def check() -> str:
        await storage.probe()
        return ""

    return check


def source_check(
    ask: Callable[[], Awaitable[Provenance]], look: Callable[[], Awaitable[object]]
) -> Check:
    """Whether the package source tells its revision, and could be evaluated once.

    Once is enough: those who write a package set could otherwise have images that are known
    served no longer.

    :param ask: has it told. If it takes longer than a look may, as the first time with a large
        folder, it goes on, and who asks again waits for the same.
    :param look: has it evaluated, in the same way; does nothing when that was done.
    """

    async def check() -> str:
        found = await ask()
        await look()
        return "stale: it can't be reached, and the last known revision serves" * found.stale

    return check


def disk_check(reactor: IReactorThreads, folders: Mapping[str, str]) -> Check:
    """Whether there is room on the disks of some folders.

    :param folders: name → path.
    """

    def look() -> str:
        for name, path in folders.items():
            if os.path.isdir(path) and shutil.disk_usage(path).free < LEAST_FREE:
                return name
        return ""

    async def check() -> str:
        full = await in_thread(reactor, look)
        if full:
            raise OSError(
                f"the disk of the {full} folder has less than {LEAST_FREE // 10**6} MB left"
            )
        return ""

    return check
