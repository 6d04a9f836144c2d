"""Which blobs were verified, kept over a restart.

A mark names a file by what changes whenever it is altered or another takes its place: a file that
was copied, or restored from a backup, has none. After a power cut a file may be another one with
the same times, since a disk gets data and times in any order: then no mark counts, but for those of
a daemon that was stopped before. That a disk loses bits, no mark shows: scrubbing does.
"""

import json
import threading
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from nixery.model.digest import Digest
from nixery.reactor import IReactor, in_thread
from nixery.repeats import Repeats
from nixery.storage.filesystem.files import FileIdentity
from nixery.storage.filesystem.verification import BlobVerifier
from nixery.whole_file import whole_file

INTERVAL = 60.0
"""Seconds between two times that the marks are written, if there are new ones."""
_MOST = 10_000
_BOOT = "/proc/sys/kernel/random/boot_id"
_STOPPED = "stopped"
_FACTS = 5  # of a file: the number of its names is none

_Left = Sequence[tuple[str, list[int]]]
_Found = Sequence[tuple[Digest, FileIdentity]]


class VerifiedMarks:
    """Keeps in a file what a verifier has verified, so that the next process's verifier knows.

    The file is not synced for each blob: a mark that is lost costs to verify a blob again.
    """

    _log = Logger()

    def __init__(self, reactor: IReactor, path: str, verifier: BlobVerifier) -> None:
        """
        :param path: of the file, which only this daemon writes: who may write blobs must not.
        """
        self._reactor = reactor
        self._path = path
        self._verifier = verifier
        self._left: dict[str, list[int]] = {}
        self._saved = 0
        self._stopped = False
        self._writing = threading.Lock()
        self._repeats = Repeats(reactor.seconds)
        self._loop = LoopingCall(lambda: Deferred.fromCoroutine(self._save()))
        self._loop.clock = reactor
        verifier.earlier = self._take

    def load(self) -> None:
        """Read the file of an earlier process; one that can't be used is one without marks. Blocks.

        To be called before :meth:`start`.
        """
        with suppress(OSError, ValueError, RecursionError, TypeError, KeyError):
            with open(self._path, "rb") as file:
                document = json.load(file)
            since, left = document["since"], dict(document["verified"])
            if since == _STOPPED:
                # First, or the next process might believe what is true of this moment only.
                self._write(left)
            if since in (_boot(), _STOPPED):
                self._left = left

    def start(self) -> None:
        """Begin to keep what is verified; harmless when it has begun."""
        if not self._loop.running:
            self._loop.start(INTERVAL, now=False)

    def stop(self) -> None:
        """Keep what was verified until now, and nothing more. Blocks for a moment."""
        if self._loop.running:
            self._loop.stop()
            with suppress(OSError):
                self._write_all(*self._known(), stopped=True)

    def _take(self, digest: Digest) -> FileIdentity | None:
        facts = self._left.pop(digest.hex, None)
        return FileIdentity(*facts) if isinstance(facts, list) and len(facts) == _FACTS else None

    async def _save(self) -> None:
        count = self._verifier.count
        if count != self._saved:
            try:
                await in_thread(self._reactor, self._write_all, *self._known())
                self._saved = count
            except OSError as error:
                text = "blobs will be verified again after a restart: {error}"
                self._repeats.warn(self._log, text, text, error=error)

    def _known(self) -> tuple[_Left, _Found]:
        """What this process had no use for yet, and what it had, at one moment: marks move from
        the one to the other."""
        return list(self._left.items()), list(self._verifier.verified.items())

    def _write_all(self, left: _Left, found: _Found, stopped: bool = False) -> None:
        facts = ((d.hex, [f.kind, f.inode, f.size, f.modified, f.changed]) for d, f in found)
        self._write(dict([*left, *facts][-_MOST:]), stopped)

    def _write(self, marks: Mapping[str, list[int]], stopped: bool = False) -> None:
        with self._writing:
            if self._stopped:  # a thread that nobody waits for any more may be late
                return
            self._stopped = stopped
            since = _STOPPED if stopped else _boot()
            with whole_file(self._path) as file:
                file.write(json.dumps({"since": since, "verified": marks}).encode("ascii"))


def _boot() -> str:
    """A text that is another one after each start of the machine, or each time if nobody knows."""
    try:
        with open(_BOOT, encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return uuid.uuid4().hex
