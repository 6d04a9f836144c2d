"""Blocks of events: the unit in which events are kept, read and sent.

A block is a run of events as lines of JSON. On disk it is a zstd frame that follows a skippable
frame with the numbers of its events. So ``zstd -dc`` prints a whole file, and blocks can be found,
and damage skipped, without reading what comes before.
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
"""Bytes of events; no block has as many."""
_PIECE = 1024 * 1024
GAP = 1_000_000
"""Numbers skipped where a process died: more than the events that listeners may have received and
that are not on disk."""


@attrs.define(eq=False)
class Block:
    """Consecutive events.

    :param first: the number of the first.
    :param last: the number of the last.
    :param data: a line for each.
    :param lost: whether they are lost; then a single line says so.
    """

    first: int
    last: int
    data: bytes
    lost: bool = False
    _shown: dict[str, bytes] = attrs.Factory(dict)

    def after(self, number: int) -> "Block":
        """The events that follow event ``number``."""
        if number < self.first:
            return self
        if self.lost:
            return lost(number, self.last, self.last - number)
        drop = number + 1 - self.first
        return Block(number + 1, self.last, self.data.split(b"\n", drop)[drop])

    def upto(self, size: int) -> "Block":
        """The first events: as many as fit into ``size`` bytes, but at least one."""
        if len(self.data) <= size:
            return self
        end = self.data.rfind(b"\n", 0, size) + 1 or self.data.find(b"\n") + 1
        if end == len(self.data):
            return self
        data = self.data[:end]
        return Block(self.first, self.first + data.count(b"\n") - 1, data)

    def shown(self, form: str, show: Callable[[bytes], bytes]) -> bytes:
        """The events in another form, which is made once.

        :param form: its name.
        :param show: converts lines to it.
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
    """A file of blocks. Its methods block; one thread may append while any number read."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.size = 0
        self._places: list[_Place] = []

    @property
    def last(self) -> int:
        """The number of the last event in the file."""
        return self._places[-1].last if self._places else 0

    def start(self, after: int) -> int:
        """The number of the first event in the block that has event ``after + 1``; ``after + 1`` if
        no block has it."""
        place = bisect_right(self._places, after, key=lambda place: place.last)
        if place == len(self._places):
            return after + 1
        return min(self._places[place].first, after + 1)

    def scan(self) -> None:
        """Find the blocks of a file that another process wrote; damage is skipped.

        :raises OSError: if it can't be read.
        """
        with open(self.path, "rb") as file:
            end = os.fstat(file.fileno()).st_size
            offset = 0
            while offset + _HEADER.size <= end:
                header = os.pread(file.fileno(), _HEADER.size, offset)
                _, _, first, last, size = _HEADER.unpack(header)
                behind = offset + _HEADER.size + size
                marked = header.startswith(_MARK)
                # Of two blocks that claim the same events, one has a damaged header.
                clash = marked and bool(self._places) and first <= self.last
                if clash and _contents(file.fileno(), self._places[-1]) is None:
                    self._places.pop()
                if not marked or not self.last < first <= last or behind > end:
                    offset = _next_mark(file.fileno(), offset + 1, end)
                    continue
                self._places.append(_Place(first, last, offset + _HEADER.size, size))
                self.size = offset = behind

    def append(self, *blocks: Block) -> None:
        """Append blocks: all of them, or none.

        :raises OSError: if they can't be written; then the file is unchanged.
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
        """The events that follow event ``after``, as far as they are in one block; None if there
        are none. Where they are lost, the block has a line that says so.

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
            data = _contents(file.fileno(), place)
        if data is None:
            return lost(after, place.last, place.last - after)
        return Block(place.first, place.last, data).after(after)


def lost(after: int, last: int, count: int | None) -> Block:
    """The block that replaces lost events.

    :param after: the number of the last event before them.
    :param last: the number of the last lost one.
    :param count: how many are lost; None if unknown.
    """
    return Block(after + 1, last, line(last, time.time(), Skipped(count)), lost=True)


def _write(descriptor: int, data: bytes, offset: int) -> None:
    """Write at an offset, and cut the file after that."""
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written
    os.ftruncate(descriptor, offset)


def _next_mark(descriptor: int, start: int, end: int) -> int:
    """The offset where the next block may begin; ``end`` if there is none."""
    for offset in range(start, end, _PIECE):
        found = os.pread(descriptor, _PIECE + len(_MARK) - 1, offset).find(_MARK)
        if found >= 0:
            return offset + found
    return end


def _contents(descriptor: int, place: _Place) -> bytes | None:
    """The lines of a block; none if they, or the numbers that it has by its header, are damaged."""
    frame = os.pread(descriptor, place.size, place.offset)
    try:
        if zstandard.frame_content_size(frame) > _LARGEST:
            return None
        data = zstandard.ZstdDecompressor().decompress(frame)
    except zstandard.ZstdError:
        return None
    return data if data.count(b"\n") == place.last - place.first + 1 else None
