"""Files that an operator may change while the daemon runs."""

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred, DeferredLock
from twisted.logger import Logger

from nixery.lifecycle import Timer
from nixery.reactor import IReactor, in_thread

T = TypeVar("T")

INTERVAL = 2
"""Seconds between two looks at a file."""
_UNTOLD = nullcontext()  # nobody is told
_LARGEST = 16_000_000  # bytes of a file


class FileInvalid(Exception):
    """A file can't be used: the message is to be read after its path."""


def read_text(path: str) -> str:
    """The text of a file of a sensible size. Blocks.

    :raises FileInvalid: if it is too large, or not UTF-8.
    :raises OSError: if it can't be read.
    """
    with open(path, "rb") as file:
        content = file.read(_LARGEST + 1)
    if len(content) > _LARGEST:
        raise FileInvalid(f"has more than {_LARGEST} bytes")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        raise FileInvalid("is not UTF-8") from None


def read_lines(path: str) -> list[tuple[int, str]]:
    """The numbered lines of a file, without empty lines and comments: see :func:`read_text`."""
    lines = enumerate(read_text(path).split("\n"), 1)
    kept = ((number, line.strip()) for number, line in lines)
    return [(number, line) for number, line in kept if line and not line.startswith("#")]


class Watched(Generic[T]):
    """The contents of some files, read again when they change.

    A change that can't be used, for whatever reason, is logged once, and the old contents stay.

    :ivar value: the contents.
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
        :param remark: warnings to operators about contents that can be used.
        """
        self._remark = remark
        self._paths = paths
        self._read = read
        self._found = self._read_as = [_signature(path) for path in paths]
        try:
            self.value: T = read()
        except OSError as error:
            raise FileInvalid(_words(error)) from error

    def look(self, force: bool = False, changing: AbstractContextManager[object] = _UNTOLD) -> None:
        """Read the files if they have changed, and not since the last look. Blocks.

        A file that is being written may be empty for a moment, and empty rules deny nothing.

        :param force: read them in any case.
        :param changing: entered while the contents change.
        """
        found = [_signature(path) for path in self._paths]
        settled, self._found = found == self._found, found
        if not force and (found == self._read_as or not settled):
            return
        self._read_as = found
        try:
            value = self._read()
        except Exception as error:
            self._log.error(
                "{path} has changed and can't be used; its old contents stay in effect: {error}",
                path=" or ".join(self._paths),
                error=_words(error),
            )
            return
        with changing:
            self.value = value
        self._log.info("{path} was reloaded", path=" and ".join(self._paths))
        self.warn()

    def remarks(self) -> list[str]:
        """A sentence for each remark on the content."""
        return [f"{' and '.join(self._paths)}: {each}" for each in self._remark(self.value)]

    def warn(self) -> None:
        """Log the remarks on the content."""
        for remark in self.remarks():
            self._log.warn("{remark}", remark=remark)


class Watch(Timer):
    """Looks at files periodically, in a thread."""

    def __init__(
        self,
        reactor: IReactor,
        files: Sequence[Watched[Any]],
        changing: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        """
        :param changing: makes what is entered, in the thread, while one gets new contents.
        """
        super().__init__(reactor, INTERVAL, self.look, now=False)
        self._reactor = reactor
        self._files = files
        self._changing = changing
        self._lock = DeferredLock()

    def startService(self) -> None:
        """Begin to look; what there is to know of the files already is logged."""
        for each in self._files:
            each.warn()
        if self._files:
            super().startService()

    def look(self, force: bool = False) -> Deferred[None]:
        """Look now, after all looks that have begun.

        :param force: read the files even if they have not changed.
        """

        def look_at_all() -> None:
            for each in self._files:
                each.look(force, self._changing())

        return self._lock.run(in_thread, self._reactor, look_at_all)


def _signature(path: str) -> object:
    """Changes when a file is written or replaced."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return (found.st_ino, found.st_size, found.st_mtime_ns)


def _words(error: Exception) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
