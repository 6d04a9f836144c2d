"""A storage in a folder kept within a bound. Everything blocks: for threads."""

import contextlib
import heapq
import json
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence

import attrs

from nixery.model.artifact import EMPTY_DIGEST
from nixery.storage.filesystem.files import remove
from nixery.storage.filesystem.last_use import Marks
from nixery.storage.filesystem.pace import Pace
from nixery.storage.keys import RECORDS, is_blob_name, is_record_key
from nixery.whole_file import sync_folder

AFTER = 0.9
"""How full a storage is, of what it may be, after some were dropped: not to do it all the time."""
MOST_RECORDS = 1000
"""Records of one kind that are kept of one blob."""
_SORTED = 2000  # blobs that are sorted at once
_TIDY = 86400.0
"""Seconds after which records are looked through, whether blobs were dropped or not."""


Used = tuple[float, str, int]
"""A blob: when it was of use last, in seconds since the epoch; the hexadecimal digits of its
digest; its bytes.

All blobs of an image have about the same time, since a pull uses them all: so they go together,
unless they are shared. There may be very many, and plain tuples are no work for Python's garbage
collector.
"""


def surplus(blobs: Iterable[Used], most: int, now: float, grace: float) -> list[Used]:
    """The blobs to drop: those of least recent use, as many as it takes. Pure.

    :param most: bytes that all may have together.
    :param grace: seconds after its last use in which a blob is not dropped, whatever the cost:
        its image may still be pulled, or made.
    """
    known = list(blobs)
    total = sum(size for _, _, size in known)
    gone: list[Used] = []
    if total <= most:
        return gone
    # Nothing else runs while Python sorts, so that it is done in pieces.
    pieces = (sorted(known[at : at + _SORTED]) for at in range(0, len(known), _SORTED))
    for blob in heapq.merge(*pieces):
        if total <= most * AFTER or blob[0] > now - grace:
            break
        gone.append(blob)
        total -= blob[2]
    return gone


@attrs.frozen
class Shrunk:
    """The outcome of a look at all blobs.

    :param blobs: how many were dropped.
    :param size: bytes that are left.
    :param left: how many are left.
    """

    blobs: int
    size: int
    left: int


@attrs.define(slots=False)
class Shrinker:
    """Drops the blobs that were of no use for longest, and what is remembered of them.

    :param folder: the storage's.
    :param aside: gives a new path on the same file system.
    :param most: bytes; none for no bound: then blobs are only counted.
    :param grace: seconds after its last use in which a blob is not dropped.
    :param now: seconds since the epoch.
    :param most_records: that are kept of one blob.
    :ivar pace: of the work.
    """

    _folder: str
    _marks: Marks
    _aside: Callable[[], str]
    _most: int | None
    _grace: float
    _now: Callable[[], float] = time.time
    _most_records: int = MOST_RECORDS
    pace: Pace = attrs.field(init=False, factory=Pace)
    _tidy_at: float = attrs.field(init=False)
    _spare: str = attrs.field(init=False, default="")  # where blobs are moved to

    def __attrs_post_init__(self) -> None:
        self._tidy_at = self._now() + _TIDY / 24  # not while everything is just starting

    def shrink(self) -> Shrunk:
        """Drop as much as it takes, of what may be dropped.

        :raises Stopped: if its pace is stopped.
        """
        blobs = list(self._blobs())
        left = {name: size for _, name, size in blobs}
        most = self._most
        gone = [] if most is None else surplus(blobs, most, self._now(), self._grace)
        del blobs
        count = len(left)
        self._drop_all((name for _, name, _ in gone), left)
        if dropped := count > len(left):
            sync_folder(os.path.join(self._folder, "layers"))
        if dropped or self._now() >= self._tidy_at:
            self._tidy_at = self._now() + _TIDY
            self._drop_records(left)
        return Shrunk(count - len(left), sum(left.values()), len(left))

    def _blobs(self) -> Iterator[Used]:
        marks = self._marks.all(self.pace)
        for entry in os.scandir(os.path.join(self._folder, "layers")):
            if not is_blob_name(entry.name):
                continue
            self.pace()
            with contextlib.suppress(FileNotFoundError):
                found = entry.stat(follow_symlinks=False)
                used = marks.pop(entry.name, None) or found.st_mtime
                if self._marks.is_ahead(used):
                    used = self._marks.correct(entry.name)
                yield used, entry.name, found.st_size
        for name, used in marks.items():
            if used < self._now() - self._grace:
                self._marks.drop(name)

    def _drop_all(self, names: Iterable[str], left: dict[str, int]) -> None:
        """Drop blobs, and take out of those that are left what was dropped."""
        for name in names:
            self.pace()
            if self._drop(name):
                left.pop(name, None)

    def drop(self, names: Sequence[str], used: bool) -> list[str]:
        """Drop some blobs, if they are there.

        :param used: whether those go too that are of use.
        :return: those that stay.
        """
        if [name for name in names if self._drop(name, used)]:
            sync_folder(os.path.join(self._folder, "layers"))
        return [name for name in names if self._has(name)]

    def _drop(self, name: str, used: bool = False) -> bool:
        """Drop a blob, unless somebody has found a use for it meanwhile.

        It is moved aside first: who marks it from then on does not find it, and who has marked it
        before is seen here.

        :param used: whether it goes in any case.
        """
        if not used and self._is_used(name):
            return False
        path = os.path.join(self._folder, "layers", name)
        aside = self._spare = self._spare or self._aside()
        try:
            os.rename(path, aside)
        except FileNotFoundError:
            self._spare = ""  # it may be the other folder that is gone
            return False
        if not used and self._is_used(name):
            os.replace(aside, path)
            return False
        # Not by moving the next one over it, which costs ext4 more than to remove it.
        remove(aside)
        self._marks.drop(name)
        return True

    def _is_used(self, name: str) -> bool:
        used = self._marks.time(name)
        return used is not None and used > self._now() - self._grace

    def _has(self, name: str) -> bool:
        return os.path.lexists(os.path.join(self._folder, "layers", name))

    def _drop_records(self, left: dict[str, int]) -> None:
        """Drop the records of blobs that are no more, and of those that have very many the
        oldest: each revision of a package set leaves one of an image that it does not change.

        What was attached to a manifest goes with the record that lists it, but for the config that
        all of it has in common.

        :param left: blobs that were there a moment ago, with their sizes: those that go are taken
            out. Others may have come since.
        """
        for folder in RECORDS:
            records: defaultdict[str, list[tuple[float, str]]] = defaultdict(list)
            path = os.path.join(self._folder, folder)
            for entry in os.scandir(path) if os.path.isdir(path) else ():
                if not is_record_key(f"{folder}/{entry.name}"):
                    continue
                self.pace()
                with contextlib.suppress(OSError):  # it is gone, or no file that can be read
                    names, of_one, attached = _blobs_of(entry.path)
                    if not names:
                        continue
                    if not any(name in left or self._has(name) for name in names):
                        os.unlink(entry.path)
                        self._drop_all(attached, left)
                    elif of_one:
                        mark = (entry.stat().st_mtime, entry.path)
                        records[names[0]].append(mark)
            for found in records.values():
                for _, path in sorted(found)[: -self._most_records]:
                    remove(path)


def _blobs_of(path: str) -> tuple[list[str], bool, list[str]]:
    """The names of the blobs that a record is about, whether it is about one as such, rather than
    many, and the names of blobs that go with it.

    :return: no blobs if it is of another kind, or of no use to anybody.
    """
    with open(path, "rb", buffering=0) as file:
        content = file.read()
    try:
        record = json.loads(content)["record"]
        of_one = "digests" not in record
        named = [record["digest"]] if of_one else record["digests"]
        names = [text.removeprefix("sha256:") for text in named]
        listed = record.get("blobs", ())
        attached = [name for name in listed if is_blob_name(name) and name != EMPTY_DIGEST.hex]
        return (names if all(map(is_blob_name, names)) else []), of_one, attached
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return [], True, []
