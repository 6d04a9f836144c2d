"""When blobs were of use, for all processes that share a folder. Everything blocks: for threads.

The mark of a blob is an empty file with that time. It is not kept with the blob's own file: any
change of that one makes it suspect, so that it is verified again.
"""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterable

from nixery.recent import Recent
from nixery.storage.keys import is_blob_name

_REMEMBERED = 100_000
_AHEAD = 60.0
"""Seconds by which clocks may differ: what was of use later than that was marked by a wrong one."""


class Marks:
    """A folder of marks."""

    def __init__(self, folder: str, fresh: float, now: Callable[[], float] = time.time) -> None:
        """
        :param fresh: seconds in which a mark need not be made again.
        :param now: seconds since the epoch.
        """
        self.fresh = fresh
        self._folder = folder
        self._now = now
        self._last: Recent[str, float] = Recent(now, _REMEMBERED)
        self._lock = threading.Lock()

    def due(self, names: Iterable[str]) -> list[str]:
        """Those of some blobs that need a mark if they are used now. Does not block."""
        now = self._now()
        with self._lock:
            return [n for n in names if not 0 <= now - (self._last.get(n) or 0.0) < self.fresh]

    def use(self, names: Iterable[str]) -> OSError | None:
        """Mark blobs as used now. It has to be done before they are looked for: who drops a blob
        moves it aside, and then looks at its mark.

        :return: why some could not be marked, if so.
        """
        now, fault = self._now(), None
        for name in self.due(names):
            try:
                self._mark(os.path.join(self._folder, name), now)
            except OSError as error:
                fault = error
                continue
            with self._lock:
                self._last.put(name, now)
        return fault

    def time(self, name: str) -> float | None:
        """When a blob was used last, if that is known."""
        try:
            return os.stat(os.path.join(self._folder, name)).st_mtime
        except FileNotFoundError:
            return None

    def all(self, pace: Callable[[], object] = lambda: None) -> dict[str, float]:
        """When each blob was used last, of those of which it is known.

        :param pace: is called after each.
        """
        times = {}
        os.makedirs(self._folder, exist_ok=True)  # somebody may have cleared it away
        for entry in os.scandir(self._folder):
            if not is_blob_name(entry.name):
                continue
            pace()
            with contextlib.suppress(FileNotFoundError):  # another process drops blobs too
                times[entry.name] = entry.stat().st_mtime
                if self.is_ahead(times[entry.name]):
                    times[entry.name] = self.correct(entry.name)
        return times

    def is_ahead(self, time: float) -> bool:
        """Whether a time is one that only a wrong clock has shown: until it comes, a blob with
        that mark would never be old."""
        return time > self._now() + _AHEAD

    def correct(self, name: str) -> float:
        """Mark a blob as used now, whatever its mark says.

        :return: the time.
        """
        now = self._now()
        self._mark(os.path.join(self._folder, name), now)
        return now

    def drop(self, name: str) -> None:
        """Forget a blob that is no more."""
        with self._lock:
            self._last.forget(name)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(self._folder, name))

    def _mark(self, path: str, now: float) -> None:
        try:
            os.utime(path, (now, now))
        except FileNotFoundError:
            os.makedirs(self._folder, exist_ok=True)
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))
            os.utime(path, (now, now))
