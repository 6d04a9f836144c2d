"""Compression of a tar stream in exact blocks, several at once, with both digests beside it.

The result depends neither on the number of threads nor on how the stream arrived.

Each block is decompressed again at once, and compared with what went in. A block that is not the
same is compressed in a second way.
"""

import hashlib
import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import NamedTuple, Self

from isal import isal_zlib

from nixery.packing.codecs import Codec
from nixery.packing.exceptions import PackError
from nixery.packing.proof import Proven, Wrong, prove


def threads_here() -> int:
    """How many threads compress: one for each processor, up to four, to stay small in memory."""
    return min(4, len(os.sched_getaffinity(0)))


class Packed(NamedTuple):
    """What is known of a layer that was packed.

    :param digest: of the compressed bytes, as ``sha256:…``.
    :param diff_id: the digest of the tar stream.
    :param size: of the compressed bytes.
    :param uncompressed: the size of the tar stream in bytes.
    :param replaced: blocks that were compressed in a second way, since the first made of them
        what does not decompress to them.
    """

    digest: str
    diff_id: str
    size: int
    uncompressed: int
    replaced: int = 0


class _Block(NamedTuple):
    """A block in the making.

    :param crc: CRC-32 of what was hashed.
    """

    buffer: memoryview
    size: int
    proven: Future[Proven]
    crc: Future[int]


class Compressor:
    """Takes a stream and passes it on compressed; an output for :mod:`nixery.packing.tar`.

    Memory is bounded by a handful of blocks: a sink that is slow holds up the writer. To be used
    as a context manager, by one thread.

    :param sink: is called with the compressed bytes piece by piece, in order; what it raises
        comes out of the method that was called.
    :param threads: how many blocks to compress at once.
    :param on_wrong: is told of each block that had to be compressed in a second way.
    """

    def __init__(
        self,
        codec: Codec,
        sink: Callable[[bytes], object],
        threads: int,
        on_wrong: Callable[[Wrong], object] = lambda wrong: None,
    ) -> None:
        self._codec = codec
        self._sink = sink
        self._on_wrong = on_wrong
        self._pool = ThreadPoolExecutor(threads)
        # One thread: blocks, and what is made of them, are hashed in their order.
        self._accountant = ThreadPoolExecutor(1)
        # Some blocks in store: the threads have work while many small files are read.
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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._accountant.shutdown(cancel_futures=True)

    def space(self) -> memoryview:
        """The rest of the current block, never empty."""
        return self._buffer[self._used :]

    def advance(self, count: int) -> None:
        """Take the first ``count`` bytes of :meth:`space` as filled."""
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

    def finish(self) -> Packed:
        """Pass on the rest. Nothing can be written afterwards.

        :raises PackError: if a block can't be compressed rightly; so do the methods that write.
        """
        if self._used:
            self._submit()
        while self._pending:
            self._collect()
        self._emit(self._codec.tail(self._crc, self._size_in))
        outside = self._accountant.submit(self._outside.hexdigest)
        return Packed(
            "sha256:" + outside.result(),
            "sha256:" + self._inside.hexdigest(),
            self._size_out,
            self._size_in,
            self._replaced,
        )

    def _submit(self) -> None:
        block = self._buffer[: self._used]
        proven = self._pool.submit(prove, self._codec, self._codec.compress, block)
        crc = self._accountant.submit(self._account, block)
        self._pending.append(_Block(self._buffer, self._used, proven, crc))
        while len(self._pending) > self._limit or (
            self._pending and self._pending[0].proven.done()
        ):
            self._collect()
        self._used = 0
        self._buffer = self._free.pop() if self._free else memoryview(bytearray(self._codec.block))

    def _account(self, block: memoryview) -> int:
        """Take a block into what is said of the whole stream.

        :return: its CRC-32.
        """
        self._inside.update(block)
        self._size_in += len(block)
        crc = isal_zlib.crc32(block)
        self._crc = isal_zlib.crc32_combine(self._crc, crc, len(block))
        return crc

    def _collect(self) -> None:
        """Pass on the oldest block, when it is ready, and have its buffer back."""
        block = self._pending.popleft()
        proven, crc = block.proven.result(), block.crc.result()
        self._emit(proven.data if proven.crc == crc else self._replacement(block, proven, crc))
        self._free.append(block.buffer)

    def _replacement(self, block: _Block, wrong: Proven, crc: int) -> bytes:
        """A block compressed in the second way."""
        right = prove(self._codec, self._codec.fallback, block.buffer[: block.size])
        if right.crc != crc:
            # Not a library: memory, or a processor, that changes what it is given.
            raise PackError("damaged", b"", "it changes while it is compressed, in either way")
        self._replaced += 1
        self._on_wrong(Wrong(self._codec.version, wrong.data, right.data))
        return right.data

    def _emit(self, data: bytes) -> None:
        self._accountant.submit(self._outside.update, data)
        self._size_out += len(data)
        if data:
            self._sink(data)
