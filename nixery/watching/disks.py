"""How much room there is on the disks that the daemon uses."""

import shutil
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThreadPool

INTERVAL = 15.0
"""Seconds between two looks."""


class Disks:
    """Looks at the disks of some folders again and again, in a thread.

    :ivar free: bytes that are free, by the folder's name; a folder that is not there has none.
    :ivar size: bytes that there are.
    """

    def __init__(self, reactor: Any, folders: Mapping[str, str]) -> None:
        """
        :param reactor: provides time and threads.
        :param folders: name → path.
        """
        self.free: dict[str, float] = {}
        self.size: dict[str, float] = {}
        self._reactor = reactor
        self._folders = folders
        self._loop = LoopingCall(self._look)
        self._loop.clock = reactor

    def start(self) -> None:
        """Begin to look."""
        self._loop.start(INTERVAL)

    def stop(self) -> None:
        """Look no more."""
        if self._loop.running:
            self._loop.stop()

    def _look(self) -> Deferred[None]:
        looking = deferToThreadPool(self._reactor, self._reactor.getThreadPool(), self._usage)
        return looking.addCallback(self._take)

    def _usage(self) -> dict[str, Any]:
        usage = {}
        for name, path in self._folders.items():
            with suppress(OSError):  # it is not there, or its disk does not answer
                usage[name] = shutil.disk_usage(path)
        return usage

    def _take(self, usage: dict[str, Any]) -> None:
        self.free = {name: float(each.free) for name, each in usage.items()}
        self.size = {name: float(each.total) for name, each in usage.items()}
