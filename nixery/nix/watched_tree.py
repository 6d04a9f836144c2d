"""Whether anything in a folder has changed since it was walked, as far as the kernel can tell."""

import os
import stat
from collections.abc import Callable, Iterable
from math import inf

from inotify_simple import Event
from twisted.logger import Logger

from nixery.inotify import (
    ATTRIBUTES,
    CREATED,
    DELETED,
    MODIFIED,
    MOVED_AWAY,
    MOVED_HERE,
    Blind,
    Watches,
    is_told,
    reason_of,
)

AGE = 60.0
"""Seconds after which a folder is walked all the same, for what the kernel does not tell: a file
that is written through memory, or a file system that is mounted there."""
_MOST = 50_000
"""Folders that are watched at most: the kernel needs a kilobyte for each."""
_RETRY = 600.0
"""Seconds until it is tried again to watch what can't all be watched."""
_SHARE = 0.25
"""Of the watches that the user may have, one source takes at most so much."""
_LIMIT = "/proc/sys/fs/inotify/max_user_watches"
_EDITS = MODIFIED | ATTRIBUTES | CREATED | DELETED | MOVED_AWAY | MOVED_HERE


class WatchedTree:
    """A folder, or a file, and all that is in it, from one walk on.

    The walk tells of everything that it comes to (:meth:`see`) before it looks into it: so what
    changes later is either seen by the walk, or told by the kernel.
    """

    _log = Logger()

    def __init__(
        self, top: str, now: Callable[[], float], before: "WatchedTree | None" = None
    ) -> None:
        """To be made before the walk. Blocks, as does all of this but :meth:`stands`.

        :param top: may lead there by links.
        :param now: seconds, from any moment on.
        :param before: of the last walk, of no use to anybody any more.
        """
        self._top = top
        self._now = now
        self._until = now() + AGE
        self._retry_at = -inf
        self._room = 0
        self._watches: Watches | None = None
        self._inode: tuple[int, int] | None = None
        self._partly: dict[int, frozenset[str]] = {}
        self._reason = ""
        if before is not None:
            self._retry_at, self._reason = before._retry_at, before._reason
            before.close()
        if now() >= self._retry_at:
            try:
                found = os.stat(top)
                self._inode = (found.st_dev, found.st_ino)
                self._room = _room()
                self._watches = Watches()
                if not is_told(top):
                    self._give_up("other machines may write to it")
            except FileNotFoundError:
                pass  # the walk will tell
            except OSError as error:
                self._give_up(reason_of(error))

    def see(self, path: str, facts: os.stat_result) -> None:
        """The walk has come to something.

        :param facts: of its ``lstat``.
        """
        if self._watches is None or self._inode is None:
            return
        if facts.st_dev != self._inode[0]:
            self._give_up(f"another file system is mounted on {path}")
        elif stat.S_ISDIR(facts.st_mode) or self._inode[1] == facts.st_ino:
            self._watch(path)
        elif stat.S_ISREG(facts.st_mode) and facts.st_nlink > 1:
            self._give_up(f"{path} has another name, by which it may be written")

    def see_some(self, folder: str, names: Iterable[str]) -> None:
        """The walk has come to a folder in which only some names matter, if it is there."""
        names = frozenset(names)
        for path in (folder, *(os.path.join(folder, name) for name in names)):
            if os.path.islink(path):
                self._give_up(f"{path} is a link")
        if os.path.isdir(folder) and (watch := self._watch(folder)) is not None:
            self._partly[watch] = names

    def close(self) -> None:
        """Watch nothing any more."""
        if self._watches is not None:
            self._watches.close()
            self._watches = None

    def stands(self) -> bool:
        """Whether nothing has changed, not even a moment ago, and that is known without a walk. It
        takes microseconds."""
        if self._watches is None or self._now() >= self._until:
            return False
        try:
            found, events = os.stat(self._top), self._watches.events()
            if (found.st_dev, found.st_ino) == self._inode and not (
                events and any(map(self._matters, events))
            ):
                return True
        except (Blind, OSError):
            pass
        self._until = -inf
        return False

    def _matters(self, event: Event) -> bool:
        """Whether an event is of something that the walk sees."""
        return event.name in self._partly.get(event.wd, (event.name,))

    def _watch(self, path: str) -> int | None:
        if self._watches is None:
            return None
        self._room -= 1
        if self._room < 0:
            self._give_up("it has more folders than may be watched")
            return None
        try:
            return self._watches.add(path, _EDITS)
        except (FileNotFoundError, NotADirectoryError):
            return None  # it has just gone, which the folder that it was in tells
        except OSError as error:
            self._give_up(f"{path} can't be watched: {reason_of(error)}")
            return None

    def _give_up(self, reason: str) -> None:
        """Watch nothing, and don't try again for a while."""
        if self._reason != reason:
            text = "{folder} is walked for each pull: {reason}"
            self._log.info(text, folder=self._top, reason=reason)
        self._reason, self._retry_at = reason, self._now() + _RETRY
        self.close()


def _room() -> int:
    with open(_LIMIT, encoding="ascii") as file:
        return min(_MOST, int(int(file.read()) * _SHARE))
