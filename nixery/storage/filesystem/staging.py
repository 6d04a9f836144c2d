"""Files that are not whole yet: a folder for each process, held by a lock.

The lock is one on the folder itself and goes with the process, however that ends. So a folder
whose lock is free is what a dead process left, in whichever container or under whichever
process id it ran.
"""

import contextlib
import os
import re
import threading
import uuid
import weakref

from twisted.logger import Logger

from nixery.storage.filesystem.files import is_full, remove
from nixery.storage.filesystem.locks import try_lock
from nixery.storage.keys import is_staged_name

_ASIDE = "aside-"
_LEFT_ASIDE = re.compile(_ASIDE + r"[0-9a-f]{32}")
_FOLDER = re.compile(r"[0-9a-f]{32}|tmp[a-z0-9_]{8}")
"""Folders of processes; those of earlier versions had the latter names."""
_MOST_NAMED = 10
_AS_FOLDER = os.O_RDONLY | os.O_DIRECTORY


class Staging:
    """Gives out names in a folder of this process's own. To be used in threads.

    Only what is in such a folder may be removed by others, once its owner is gone.
    """

    _log = Logger()

    def __init__(self, parent: str) -> None:
        """
        :param parent: the folder that all processes have their own in.
        """
        self._parent = parent
        self._own: str | None = None
        self._leaving: weakref.finalize[[str, int], Staging] | None = None
        self._claiming = threading.Lock()

    def name(self) -> str:
        """A path that nothing else has, and nothing is at yet.

        If somebody has cleared away this process's folder, there is a new one.
        """
        with self._claiming:
            if self._own is None or not os.path.isdir(self._own):
                self._own = self._claim()
            return os.path.join(self._own, uuid.uuid4().hex)

    def aside(self) -> str:
        """A path for what is to be removed in a moment: also where there is no room for a folder
        of this process's own, or else nothing could ever make room."""
        try:
            return self.name()
        except OSError as error:
            if not is_full(error):
                raise
            return os.path.join(self._parent, _ASIDE + uuid.uuid4().hex)

    def leave(self) -> None:
        """Give up this process's own folder, which goes if nothing is in it."""
        with self._claiming:
            self._own = None
            if self._leaving is not None:
                self._leaving()

    def clear(self) -> None:
        """Remove what processes that are no more have left, and log it."""
        try:
            gone = [entry.name for entry in os.scandir(self._parent) if self._clear(entry)]
        except FileNotFoundError:  # there has been no process
            return
        if gone:
            self._log.info(
                "removed from {folder} what {count} processes had not finished: {names}",
                folder=self._parent,
                count=len(gone),
                names=" ".join(gone[:_MOST_NAMED]),
            )

    def _clear(self, entry: os.DirEntry[str]) -> bool:
        """Remove something if it is ours, and nobody's any more; whether it was."""
        try:
            if _FOLDER.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False):
                return _remove_if_free(entry.path)
            if _LEFT_ASIDE.fullmatch(entry.name):
                remove(entry.path)
                return True
        except FileNotFoundError:
            pass  # another process is clearing too
        except OSError as error:
            self._log.warn("{path} is left as it is: {error}", path=entry.path, error=error)
        return False

    def _claim(self) -> str:
        os.makedirs(self._parent, exist_ok=True)
        while True:
            path = os.path.join(self._parent, uuid.uuid4().hex)
            os.mkdir(path, 0o700)
            # Where nothing can be locked, nobody removes the folder either.
            held = try_lock(path, _AS_FOLDER)
            if held is not None:  # otherwise a process that clears took it away
                self._leaving = weakref.finalize(self, _leave, path, held)
                return path


def _leave(path: str, held: int) -> None:
    with contextlib.suppress(OSError):
        os.rmdir(path)
    os.close(held)


def _remove_if_free(path: str) -> bool:
    """Remove a folder that no process has, unless there is more in it than what is staged.

    :return: whether it is no more.
    """
    held = try_lock(path, _AS_FOLDER, needed=True)
    if held is None:
        return False
    try:
        for name in filter(is_staged_name, os.listdir(path)):
            remove(os.path.join(path, name))
        os.rmdir(path)
        return True
    finally:
        os.close(held)
