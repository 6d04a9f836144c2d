"""Events in blocks: what is kept, read and sent at once.

A block is a run of events as lines of JSON. On disk it is a zstd frame behind a skippable frame
that says which events it holds; so ``zstd -dc`` prints a whole file, and a block is found, and
damage passed over, without reading what is before it.
"""

import contextlib
import os
import struct
import time
from bisect import bisect_right
from collections.abc import Callable

import attrs
import zstandard

from nixery.model.event_json import line
from nixery.model.events import Skipped

# https://github.com/facebook/zstd/blob/dev/doc/zstd_compression_format.md#skippable-frames
_HEADER = struct.Struct("<IIQQI")  # magic number, payload size; first, last, size of the frame
_MARK = struct.pack("<II", 0x184D2A5E, _HEADER.size - 8)
_LARGEST = 16 * 1024 * 1024
"""Bytes of events that no block has."""
_PIECE = 1024 * 1024
GAP = 1_000_000
"""Numbers that are passed over where a process died: more than there can be events of which
somebody may have been told, and which are not on disk."""


@attrs.define(eq=False)
class Block:
    """Events that follow each other.

    :param first: the number of the first.
    :param last: the number of the last.
    :param data: a line for each.
    :param lost: whether they can't be told; a single line says so then.
    """

    first: int
    last: int
    data: bytes
    lost: bool = False
    _shown: dict[str, bytes] = attrs.Factory(dict)

    def after(self, number: int) -> "Block":
        """The events behind one."""
        if number < self.first:
            return self
        if self.lost:
            return lost(number, self.last, self.last - number)
        drop = number + 1 - self.first
        return Block(number + 1, self.last, self.data.split(b"\n", drop)[drop])

    def upto(self, size: int) -> "Block":
        """The first events: as many as fit into a number of bytes, but one at least."""
        if len(self.data) <= size:
            return self
        end = self.data.rfind(b"\n", 0, size) + 1 or self.data.find(b"\n") + 1
        if end == len(self.data):
            return self
        data = self.data[:end]
        return Block(self.first, self.first + data.count(b"\n") - 1, data)

    def shown(self, form: str, show: Callable[[bytes], bytes]) -> bytes:
        """The events in another form; made once for all who want it.

        :param form: its name.
        :param show: makes it of lines.
        """
        shown = self._shown.get(form)
        if shown is None:
            shown = self._shown[form] = show(self.data)
        return shown


@attrs.frozen
class _Place:
    first: int
    last: int
    offset: int
    size: int


class BlockFile:
    """A file of blocks. Blocks the thread; one at a time may append, any number may read."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.size = 0
        self._places: list[_Place] = []

    @property
    def last(self) -> int:
        """The number of the last event that is there."""
        return self._places[-1].last if self._places else 0

    def start(self, after: int) -> int:
        """The number of the first event of the block that has the one behind another; that one's
        own if it is in none."""
        place = bisect_right(self._places, after, key=lambda place: place.last)
        if place == len(self._places):
            return after + 1
        return min(self._places[place].first, after + 1)

    def scan(self) -> None:
        """Find the blocks of a file that another process wrote; passes over what is damaged.

        :raises OSError: if it can't be read.
        """
        with open(self.path, "rb") as file:
            end = os.fstat(file.fileno()).st_size
            offset = 0
            while offset + _HEADER.size <= end:
                header = os.pread(file.fileno(), _HEADER.size, offset)
                _, _, first, last, size = _HEADER.unpack(header)
                behind = offset + _HEADER.size + size
                if not header.startswith(_MARK) or not self.last < first <= last or behind > end:
                    offset = _next_mark(file.fileno(), offset + 1, end)
                    continue
                self._places.append(_Place(first, last, offset + _HEADER.size, size))
                self.size = offset = behind

    def append(self, *blocks: Block) -> None:
        """Write blocks behind the last one: all of them, or none.

        :raises OSError: if they can't be written; the file is as it was then.
        """
        places, pieces, offset = [], [], self.size
        for block in blocks:
            compressor = zstandard.ZstdCompressor(3, write_checksum=True)
            frame = compressor.compress(block.data)
            pieces += [_MARK, struct.pack("<QQI", block.first, block.last, len(frame)), frame]
            offset += _HEADER.size
            places.append(_Place(block.first, block.last, offset, len(frame)))
            offset += len(frame)
        self._write(b"".join(pieces))
        self.size = offset
        self._places += places

    def _write(self, data: bytes) -> None:
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            _write(descriptor, data, self.size)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, self.size)
            raise
        finally:
            os.close(descriptor)

    def read(self, after: int) -> Block | None:
        """The events behind one, as far as they are in one block; nothing if there are none.

        Where they are lost, what comes is a line that says so.

        :raises OSError: if the file can't be read.
        """
        places = self._places
        start = bisect_right(places, after, key=lambda place: place.last)
        if start == len(places):
            return None
        place = places[start]
        if place.first > after + 1:
            before = places[start - 1].last if start else 0
            died = place.first == before + GAP + 1
            return lost(after, place.first - 1, None if died else place.first - 1 - after)
        with open(self.path, "rb") as file:
            frame = os.pread(file.fileno(), place.size, place.offset)
        data = _decompressed(frame)
        if data is None:
            return lost(after, place.last, place.last - after)
        return Block(place.first, place.last, data).after(after)


def lost(after: int, last: int, count: int | None) -> Block:
    """What stands for the events behind one, up to the last that can't be told.

    :param count: how many those are; nothing where nobody knows.
    """
    return Block(after + 1, last, line(last, time.time(), Skipped(count)), lost=True)


def _write(descriptor: int, data: bytes, offset: int) -> None:
    """Write at a place, and let nothing be behind it."""
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written
    os.ftruncate(descriptor, offset)


def _next_mark(descriptor: int, start: int, end: int) -> int:
    """Where the next block may begin; the end if none does."""
    for offset in range(start, end, _PIECE):
        found = os.pread(descriptor, _PIECE + len(_MARK) - 1, offset).find(_MARK)
        if found >= 0:
            return offset + found
    return end


def _decompressed(frame: bytes) -> bytes | None:
    try:
        if zstandard.frame_content_size(frame) > _LARGEST:
            return None
        return zstandard.ZstdDecompressor().decompress(frame)
    except zstandard.ZstdError:
        return None
