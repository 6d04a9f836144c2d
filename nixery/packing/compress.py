"""Compression of a tar stream in blocks of one size, several at once, with both digests.

The result depends neither on the number of threads nor on the pieces in which the stream arrived.

Libraries of compression have had faults, and memory has them: so each block is decompressed again
and compared, and one that differs is compressed in a second way.
"""

import hashlib
import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, Self

import deflate
from isal import isal_zlib

from nixery.packing.codecs import Codec
from nixery.packing.tar_stream import PackError


def threads_here() -> int:
    """The number of compressing threads: one per processor, at most four to save memory."""
    return min(4, len(os.sched_getaffinity(0)))


class Compressed(NamedTuple):
    """A stream that was compressed.

    :param digest: of the compressed bytes, as ``sha256:…``.
    :param diff_id: the digest of the stream.
    :param size: of the compressed bytes.
    :param uncompressed: bytes of the stream.
    :param replaced: number of blocks that had to be compressed in a second way.
    """

    digest: str
    diff_id: str
    size: int
    uncompressed: int
    replaced: int = 0


class WrongBlock(NamedTuple):
    """A block that was compressed wrongly.

    :param codec: the version of the codec.
    :param wrong: its output, which decompresses to something else.
    :param right: the block compressed in the second way.
    """

    codec: str
    wrong: bytes
    right: bytes


class _Checked(NamedTuple):
    """A compressed block.

    :param crc: CRC-32 of what it decompresses to; None if it does not, or to another size.
    """

    data: bytes
    crc: int | None


class _Block(NamedTuple):
    """A block in the making.

    :param crc: CRC-32 of what was hashed.
    """

    buffer: memoryview
    size: int
    checked: Future[_Checked]
    crc: Future[int]


class Compressor:
    """A :class:`TarOutput` that passes the stream on, compressed.

    Memory is bounded by a few blocks: a slow sink holds up the writer. A context manager, for one
    thread.

    :param sink: takes the compressed bytes piece by piece, in order; its errors are passed on.
    :param threads: the number of blocks to compress at once.
    :param on_wrong: called with each block that was compressed wrongly.
    """

    def __init__(
        self,
        codec: Codec,
        sink: Callable[[bytes], object],
        threads: int,
        on_wrong: Callable[[WrongBlock], object] = lambda wrong: None,
    ) -> None:
        self._codec = codec
        self._sink = sink
        self._on_wrong = on_wrong
        self._pool = ThreadPoolExecutor(threads)
        # One thread, so that blocks and their compressed forms are hashed in order.
        self._accountant = ThreadPoolExecutor(1)
        # Some blocks in advance: the threads have work while many small files are read.
        self._limit = threads + 2
        self._pending: deque[_Block] = deque()
        self._free: list[memoryview] = []
        self._buffer = memoryview(bytearray(codec.block))
        self._used = 0
        self._inside, self._outside = hashlib.sha256(), hashlib.sha256()
        self._crc = self._size_in = self._size_out = self._replaced = 0
        self._emit(codec.head)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._accountant.shutdown(cancel_futures=True)

    def space(self) -> memoryview:
        """The rest of the current block, never empty."""
        return self._buffer[self._used :]

    def advance(self, count: int) -> None:
        """Append the first ``count`` bytes of :meth:`space`."""
        self._used += count
        if self._used == self._codec.block:
            self._submit()

    def write(self, data: bytes) -> None:
        """Append bytes."""
        start = 0
        while start < len(data):
            space = self.space()
            piece = data[start : start + len(space)]
            space[: len(piece)] = piece
            self.advance(len(piece))
            start += len(piece)

    def finish(self) -> Compressed:
        """Pass on the rest. Nothing can be written afterwards.

        :raises PackError: if a block can't be compressed correctly; so do the methods that write.
        """
        if self._used:
            self._submit()
        while self._pending:
            self._collect()
        self._emit(self._codec.tail(self._crc, self._size_in))
        outside = self._accountant.submit(self._outside.hexdigest)
        return Compressed(
            "sha256:" + outside.result(),
            "sha256:" + self._inside.hexdigest(),
            self._size_out,
            self._size_in,
            self._replaced,
        )

    def _submit(self) -> None:
        block = self._buffer[: self._used]
        checked = self._pool.submit(_compress, self._codec, self._codec.compress, block)
        crc = self._accountant.submit(self._account, block)
        self._pending.append(_Block(self._buffer, self._used, checked, crc))
        while self._pending and (
            len(self._pending) > self._limit or self._pending[0].checked.done()
        ):
            self._collect()
        self._used = 0
        self._buffer = self._free.pop() if self._free else memoryview(bytearray(self._codec.block))

    def _account(self, block: memoryview) -> int:
        """Add a block to the digest, CRC-32 and size of the stream.

        :return: the block's CRC-32.
        """
        self._inside.update(block)
        self._size_in += len(block)
        crc = isal_zlib.crc32(block)
        self._crc = isal_zlib.crc32_combine(self._crc, crc, len(block))
        return crc

    def _collect(self) -> None:
        """Wait for the oldest block, pass it on, and take its buffer back."""
        block = self._pending.popleft()
        checked, crc = block.checked.result(), block.crc.result()
        self._emit(checked.data if checked.crc == crc else self._replacement(block, checked, crc))
        self._free.append(block.buffer)

    def _replacement(self, block: _Block, wrong: _Checked, crc: int) -> bytes:
        """The block, compressed in the second way."""
        right = _compress(self._codec, self._codec.fallback, block.buffer[: block.size])
        if right.crc != crc:
            # Not a library's fault, but memory's or the processor's.
            raise PackError("damaged", b"", "it changed while it was compressed, in either way")
        self._replaced += 1
        self._on_wrong(WrongBlock(self._codec.version, wrong.data, right.data))
        return right.data

    def _emit(self, data: bytes) -> None:
        self._accountant.submit(self._outside.update, data)
        self._size_out += len(data)
        if data:
            self._sink(data)


def _compress(codec: Codec, compress: Callable[[memoryview], bytes], block: memoryview) -> _Checked:
    data = compress(block)
    try:
        again = codec.decompress(data, len(block))
    except Exception:  # each library has errors of its own
        return _Checked(data, None)
    # Not by isal's CRC-32, as for the input: neither library is trusted alone.
    return _Checked(data, deflate.crc32(again) if len(again) == len(block) else None)
