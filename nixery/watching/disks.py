"""Free space on the disks that the daemon uses."""

import shutil
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from twisted.internet.defer import Deferred

from nixery.lifecycle import Timer
from nixery.model.reading import Reading
from nixery.reactor import IReactor, in_thread

INTERVAL = 15.0
"""Seconds between two measurements."""


class Disks(Timer):
    """Measures the disks of some folders periodically, in a thread.

    :ivar free: free bytes, by the folder's name; a folder that does not exist is left out.
    :ivar size: bytes in all.
    """

    def __init__(self, reactor: IReactor, folders: Mapping[str, str]) -> None:
        """
        :param folders: name → path.
        """
        self.free: dict[str, float] = {}
        self.size: dict[str, float] = {}
        super().__init__(reactor, INTERVAL, self._look)
        self._reactor = reactor
        self._folders = folders

    def readings(self) -> list[Reading]:
        """The metrics of the disks."""
        return [
            Reading(
                "nixery_disk_free_bytes",
                "Room on the disk of a folder.",
                lambda: self.free,
                "folder",
            ),
            Reading(
                "nixery_disk_size_bytes",
                "Size of the disk of a folder.",
                lambda: self.size,
                "folder",
            ),
        ]

    def _look(self) -> Deferred[None]:
        return in_thread(self._reactor, self._usage).addCallback(self._take)

    def _usage(self) -> dict[str, Any]:
        usage = {}
        for name, path in self._folders.items():
            with suppress(OSError):  # it does not exist, or its disk does not answer
                usage[name] = shutil.disk_usage(path)
        return usage

    def _take(self, usage: dict[str, Any]) -> None:
        self.free = {name: float(each.free) for name, each in usage.items()}
        self.size = {name: float(each.total) for name, each in usage.items()}
