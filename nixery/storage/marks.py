"""When blobs were of use, for all processes that share a folder. Everything blocks: for threads.

The mark of a blob is an empty file with that time. It is not kept with the blob's own file: any
change of that one makes it suspect, so that it is verified again.
"""

import contextlib
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable

_REMEMBERED = 100_000


class Marks:
    """A folder of marks."""

    def __init__(self, folder: str, fresh: float, now: Callable[[], float] = time.time) -> None:
        """
        :param fresh: seconds in which a mark need not be made again.
        :param now: seconds since the epoch.
        """
        self._folder = folder
        self._fresh = fresh
        self._now = now
        self._last: OrderedDict[str, float] = OrderedDict()
        self._lock = threading.Lock()

    def use(self, names: Iterable[str]) -> None:
        """Mark blobs as used now. It has to be done before they are looked for: who drops a blob
        moves it aside, and then looks at its mark."""
        now = self._now()
        for name in names:
            if now - self._last.get(name, 0.0) < self._fresh:
                continue
            path = os.path.join(self._folder, name)
            try:
                os.utime(path, (now, now))
            except FileNotFoundError:
                os.makedirs(self._folder, exist_ok=True)
                os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))
                os.utime(path, (now, now))
            with self._lock:
                self._last[name] = now
                self._last.move_to_end(name)
                if len(self._last) > _REMEMBERED:
                    self._last.popitem(last=False)

    def time(self, name: str) -> float | None:
        """When a blob was used last, if that is known."""
        try:
            return os.stat(os.path.join(self._folder, name)).st_mtime
        except FileNotFoundError:
            return None

    def all(self) -> dict[str, float]:
        """When each blob was used last, of those of which it is known."""
        return {entry.name: entry.stat().st_mtime for entry in os.scandir(self._folder)}

    def drop(self, name: str) -> None:
        """Forget a blob that is no more."""
        with self._lock:
            self._last.pop(name, None)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(self._folder, name))
