"""Files that an operator may change while the daemon runs."""

import os
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred, DeferredLock
from twisted.logger import Logger

from nixery.lifecycle import Timer
from nixery.reactor import IReactor, in_thread

T = TypeVar("T")

INTERVAL = 2
"""Seconds between two looks at a file."""


class FileInvalid(Exception):
    """A file can't be used: the message is what follows its path."""


class Watched(Generic[T]):
    """The content of some files, read again when they change.

    A change that can't be used is logged once, and what was read before stays, whatever is wrong
    with it.

    :ivar value: what was last read of them.
    """

    _log = Logger()

    def __init__(
        self,
        paths: Sequence[str],
        read: Callable[[], T],
        remark: Callable[[T], Sequence[str]] = lambda value: (),
    ) -> None:
        """
        :param read: reads all of them; it may block, and raises :class:`FileInvalid` or
            ``OSError``.
        :param remark: what an operator should know of what they hold, though it can be used.
        """
        self._remark = remark
        self._paths = paths
        self._read = read
        self._found: list[object] = []
        self._read_as: list[object] = []
        self.value: T = self._first()

    def look(self, force: bool = False) -> None:
        """Read the files if they have changed, and not since the last look. Blocks.

        A file that is being written may be empty for a moment, and rules that are empty deny
        nothing.

        :param force: read them in any case.
        """
        found = [_signature(path) for path in self._paths]
        settled, self._found = found == self._found, found
        if not force and (found == self._read_as or not settled):
            return
        self._read_as = found
        try:
            self.value = self._read()
        except Exception as error:
            self._log.error(
                "{path} has changed and can't be used; what it held before stays: {error}",
                path=" or ".join(self._paths),
                error=_words(error),
            )
            return
        self._log.info("{path} was reloaded", path=" and ".join(self._paths))
        self.warn()

    def remarks(self) -> list[str]:
        """A sentence for each remark on the content."""
        return [f"{' and '.join(self._paths)}: {each}" for each in self._remark(self.value)]

    def warn(self) -> None:
        """Log the remarks on the content."""
        for remark in self.remarks():
            self._log.warn("{remark}", remark=remark)

    def _first(self) -> T:
        self._found = self._read_as = [_signature(path) for path in self._paths]
        try:
            return self._read()
        except OSError as error:
            raise FileInvalid(_words(error)) from error


class Watch(Timer):
    """Looks at files periodically, in a thread."""

    def __init__(self, reactor: IReactor, files: Sequence[Watched[Any]]) -> None:
        super().__init__(reactor, INTERVAL, self.look, now=False)
        self._reactor = reactor
        self._files = files
        self._lock = DeferredLock()

    def startService(self) -> None:
        """Begin to look; what there is to know of the files already is logged."""
        for each in self._files:
            each.warn()
        if self._files:
            super().startService()

    def look(self, force: bool = False) -> Deferred[None]:
        """Look now, once all looks that were begun have ended.

        :param force: read the files even if they have not changed.
        """
        return self._lock.run(self._look, force)

    def _look(self, force: bool) -> Deferred[None]:
        return in_thread(self._reactor, self._look_at_all, force)

    def _look_at_all(self, force: bool) -> None:
        for each in self._files:
            each.look(force)


def _signature(path: str) -> object:
    """A value that changes when a file is written or replaced."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return (found.st_ino, found.st_size, found.st_mtime_ns)


def _words(error: Exception) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
