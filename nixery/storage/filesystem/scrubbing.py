"""Every blob on disk verified once in a while, before somebody needs it. Blocks: for threads."""

import contextlib
import os
from collections.abc import Callable, Iterator

from nixery.model.digest import Digest
from nixery.model.request_errors import DigestInvalid
from nixery.storage.filesystem.files import read_file
from nixery.storage.filesystem.pace import Pace
from nixery.storage.filesystem.verification import verify_file
from nixery.whole_file import whole_file

RATE = 50_000_000
"""Bytes a second that are read at most, so that others have the disk as well."""
_LOOK_AGAIN = 3600.0
"""Seconds until an empty storage is looked at again."""


class Scrubber:
    """Goes through all blobs by their names, round and round, and remembers where it is.

    :ivar verified: blobs that were read since the start.
    :ivar damaged: those of them that were dropped.
    """

    def __init__(self, folder: str, aside: Callable[[], str], rate: float = RATE) -> None:
        """
        :param folder: the storage's.
        :param aside: gives a new path on the same file system.
        :param rate: bytes a second.
        """
        self.verified = 0
        self.damaged = 0
        self._folder = folder
        self._position = os.path.join(folder, "scrubbed")
        self._aside = aside
        self._rate = rate
        self._pace = Pace()
        self._round: list[tuple[str, int]] = []
        self._total = 0

    def stop(self) -> None:
        """Stop reading, in the middle of a blob if need be."""
        self._pace.stop()

    def next(self, round_seconds: float, least: float = 0.0) -> tuple[float, str]:
        """Verify the next blobs, up to one that is damaged, which is dropped.

        :param round_seconds: in which all blobs are to be verified once.
        :param least: seconds that pass before the next call: as many blobs are verified as are due
            meanwhile, but no more than the rest of a round.
        :return: the seconds until the one after them is due, and what was wrong, if something was.
        :raises Stopped: if it was stopped.
        """
        due = 0.0
        while True:
            seconds, damage = self._verify_next(round_seconds)
            due += seconds
            if damage or due >= least or not self._round:
                return max(due, least), damage

    def _verify_next(self, round_seconds: float) -> tuple[float, str]:
        if not self._round:
            self._begin_round()
        if not self._round:
            return min(round_seconds, _LOOK_AGAIN), ""
        name, size = self._round.pop()
        path = os.path.join(self._folder, "layers", name)
        digest = Digest.parse(f"sha256:{name}")
        verdict = verify_file(path, digest, self._aside, self._pause)
        self.verified += 1
        self.damaged += bool(verdict.dropped)
        with whole_file(self._position, self._aside(), lasting=False) as file:
            file.write(name.encode("ascii"))
        return round_seconds * size / self._total, verdict.dropped and f"{path} {verdict.dropped}"

    def _begin_round(self) -> None:
        """List what is to be read, from where an earlier process left off."""
        after = (read_file(self._position, 64) or b"").decode("ascii", "replace")
        found = sorted(self._blobs(), reverse=True)
        self._total = sum(size for _, size in found) or 1
        self._round = [each for each in found if each[0] > after] or found

    def _blobs(self) -> Iterator[tuple[str, int]]:
        for entry in os.scandir(os.path.join(self._folder, "layers")):
            with contextlib.suppress(DigestInvalid, FileNotFoundError):
                Digest.parse(f"sha256:{entry.name}")
                yield entry.name, entry.stat(follow_symlinks=False).st_size

    def _pause(self, count: int) -> None:
        self._pace.rest(count / self._rate)
