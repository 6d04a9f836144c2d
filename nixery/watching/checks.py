"""The checks that make up readiness."""

import os
import shutil
from collections.abc import Awaitable, Callable, Mapping, Sequence

from twisted.internet.interfaces import IReactorThreads

from nixery.interfaces import IStorage, Provenance
from nixery.reactor import in_thread
from nixery.watching.readiness import Check

LEAST_FREE = 64_000_000
"""Free bytes of a disk below which the daemon can't do its work."""
_NO_PATH = "/nix/store/" + "0" * 32 + "-ready"


def storage_check(storage: IStorage) -> Check:
    """Whether records can be written and read."""

    async def check() -> str:
        await storage.probe()
        return ""

    return check


def nix_check(valid: Callable[[Sequence[str]], Awaitable[object]]) -> Check:
    """Whether Nix answers.

    :param valid: asks it which of some store paths there are.
    """

    async def check() -> str:
        await valid([_NO_PATH])
        return ""

    return check


def source_check(
    ask: Callable[[], Awaitable[Provenance]], look: Callable[[], Awaitable[object]]
) -> Check:
    """Whether the package source's revision can be found, and the set could be evaluated once.

    Once is enough: otherwise authors of a package set could keep the registry from serving images
    that it has.

    :param ask: finds the revision. If that takes longer than a check may, as the first time with a
        large folder, it goes on, and the next check waits for the same result.
    :param look: evaluates the set, in the same way; does nothing once it has succeeded.
    """

    async def check() -> str:
        found = await ask()
        await look()
        return "stale: it can't be reached, and the last known revision is served" * found.stale

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
