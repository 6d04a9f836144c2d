"""Which blobs were found in their places a moment ago and, as the kernel tells, still are."""

import os
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from math import inf

import attrs
from twisted.logger import Logger

from nixery.inotify import (
    ATTRIBUTES,
    DELETED,
    MODIFIED,
    MOVED_AWAY,
    MOVED_HERE,
    Blind,
    Watches,
    is_told,
    reason_of,
)
from nixery.repeats import Repeats
from nixery.storage.filesystem.files import FileIdentity

AGE = 10.0
"""Seconds after which a blob is looked at again, for what the kernel does not tell: a file that is
written by another name of it, or through memory."""
_MOST = 50_000
_RETRY = 60.0
"""Seconds until it is tried again to watch what could not be watched."""
_LOSSES = MODIFIED | ATTRIBUTES | DELETED | MOVED_AWAY | MOVED_HERE


@attrs.define(eq=False)
class Look:
    """A look at some blobs that has begun."""

    names: tuple[str, ...]


@attrs.frozen(eq=False)
class _Standing:
    file: FileIdentity
    since: float


class StandingBlobs:
    """Remembers which files were found in a folder of blobs, until anything happens to them.

    Another file that comes into the place of one counts as well; one in a place that nobody has
    looked at does not: that is how new blobs come. Only :meth:`watch` may be called in threads.
    """

    _log = Logger()

    def __init__(self, folder: str, now: Callable[[], float], most: int = _MOST) -> None:
        """
        :param folder: of blobs only.
        :param now: seconds, from any moment on.
        :param most: files that are remembered; at one more, all are forgotten.
        """
        self._folder = folder
        self._now = now
        self._most = most
        self._found: dict[str, _Standing | Look] = {}
        self._changes = 0
        self._blind_until = -inf
        self._watches: Watches | None = None
        self._renewed: tuple[Watches | None] | None = None
        self._inode: tuple[int, int] | None = None
        self._retry_at = -inf
        self._watching = threading.Lock()
        self._repeats = Repeats(now)

    def changes(self) -> int | None:
        """See :meth:`nixery.interfaces.IBlobs.changes`."""
        self._read()
        return self._changes if self._sees else None

    def known(self, names: Iterable[str]) -> dict[str, FileIdentity]:
        """Those of some blobs that need no look, with their files."""
        self._read()
        oldest = self._now() - AGE
        found = ((name, self._found.get(name)) for name in names)
        return {n: f.file for n, f in found if isinstance(f, _Standing) and f.since > oldest}

    def look(self, names: Iterable[str]) -> Look:
        """Begin to look at blobs."""
        look = Look(tuple(names))
        self._read()
        if self._sees:
            if len(self._found) + len(look.names) > self._most:
                self._forget()
            self._found.update(dict.fromkeys(look.names, look))
        return look

    def ended(self, look: Look, found: Mapping[str, FileIdentity]) -> None:
        """Remember what a look has found, but for blobs that something has happened to since it
        began."""
        self._read()
        since = self._now()
        for name in look.names:
            if self._found.get(name) is not look:
                continue
            file = found.get(name)
            if file is not None and file.links == 1:
                self._found[name] = _Standing(file, since)
            else:
                del self._found[name]
        if any(file.links != 1 for file in found.values()):
            self._blind_until = since + AGE

    @property
    def unwatched(self) -> bool:
        """Whether :meth:`watch` is to be called before a look."""
        return self._watches is None and self._now() >= self._retry_at

    def watch(self) -> None:
        """Have the kernel tell, if it does not yet and can. Blocks."""
        with self._watching, suppress(OSError):  # who looks for blobs there will tell
            found = os.stat(self._folder)
            inode = (found.st_dev, found.st_ino)
            settled = self._watches is not None or self._now() < self._retry_at
            if self._renewed is not None or (settled and inode == self._inode):
                return
            self._inode, self._retry_at = inode, self._now() + _RETRY
            self._renewed = (self._watched(),)

    def _watched(self) -> Watches | None:
        reason = "other machines may write to it"
        try:
            if is_told(self._folder):
                watches = Watches()
                watches.add(os.path.dirname(self._folder), 0)  # it may be moved with that
                watches.add(self._folder, _LOSSES)
                return watches
        except OSError as error:
            reason = f"it can't be watched: {reason_of(error)}"
        text = "{folder} is looked at for each request: {reason}"
        self._repeats.warn(self._log, reason, text, folder=self._folder, reason=reason)
        return None

    @property
    def _sees(self) -> bool:
        return self._watches is not None and self._now() >= self._blind_until

    def _read(self) -> None:
        """Forget what the kernel tells of."""
        if self._renewed is not None:
            self._replace(*self._renewed)
            self._renewed = None
        if self._watches is None:
            return
        try:
            names = {event.name for event in self._watches.events()}
        except Blind:
            self._replace(None)
            self._retry_at = -inf
            return
        for name in names & self._found.keys():
            del self._found[name]
            self._changes += 1

    def _replace(self, watches: Watches | None) -> None:
        if self._watches is not None:
            self._watches.close()
        self._watches = watches
        self._forget()

    def _forget(self) -> None:
        self._found.clear()
        self._changes += 1
