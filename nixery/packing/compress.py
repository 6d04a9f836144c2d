"""Compression of a tar stream in exact blocks, several at once, with both digests beside it.

A block is compressed without regard to its neighbours, so that the result depends neither on the
number of threads nor on how the stream arrived. gzip output is one member: its blocks end on a
byte boundary by a sync flush, as pigz does it. zstd output is one frame for each block.
"""

import functools
import hashlib
import os
import zlib
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import NamedTuple, Self

import isal
from isal import isal_zlib

from nixery.packing.tar import FORMAT

_GZIP_HEAD = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"  # no flags, no time, no system
_GZIP_LAST_BLOCK = b"\x03\0"
_GZIP_MEDIA_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"
_ZSTD_MEDIA_TYPE = "application/vnd.oci.image.layer.v1.tar+zstd"
_MIB = 1 << 20


class Codec(NamedTuple):
    """A way to compress.

    :param version: names the library and everything else on which the bytes depend.
    :param media_type: of the layer.
    :param block: the size of a block in bytes.
    :param compress: makes of one block what stands for it in the output.
    :param head: what the output begins with.
    :param tail: makes what it ends with, of the stream's CRC-32 and its size in bytes.
    """

    version: str
    media_type: str
    block: int
    compress: Callable[[memoryview], bytes]
    head: bytes
    tail: Callable[[int, int], bytes]


def _gzip_tail(crc: int, size: int) -> bytes:
    return _GZIP_LAST_BLOCK + crc.to_bytes(4, "little") + (size % 2**32).to_bytes(4, "little")


def _isal_block(block: memoryview) -> bytes:
    # Level 2: 1-2 % smaller than level 1 for 5 % of its speed. The output of both is the same on
    # every x86-64-v2 machine, whatever vector instructions it has; that of level 3 is not.
    stream = isal_zlib.compressobj(2, isal_zlib.DEFLATED, -15)
    return stream.compress(block) + stream.flush(isal_zlib.Z_SYNC_FLUSH)


def _zlib_block(block: memoryview) -> bytes:
    stream = zlib.compressobj(6, zlib.DEFLATED, -15)
    return stream.compress(block) + stream.flush(zlib.Z_SYNC_FLUSH)


def _fast() -> Codec:
    named = f"isal-{isal.__version__}-2"
    return Codec(named, _GZIP_MEDIA_TYPE, _MIB, _isal_block, _GZIP_HEAD, _gzip_tail)


def _small() -> Codec:
    named = f"zlib-{zlib.ZLIB_RUNTIME_VERSION}-6"
    return Codec(named, _GZIP_MEDIA_TYPE, _MIB, _zlib_block, _GZIP_HEAD, _gzip_tail)


def _zstd() -> Codec:
    import zstandard

    def compress(block: memoryview) -> bytes:
        return zstandard.ZstdCompressor(level=3).compress(block)

    named = "zstd-" + ".".join(map(str, zstandard.ZSTD_VERSION)) + "-3"
    return Codec(named, _ZSTD_MEDIA_TYPE, 2 * _MIB, compress, b"", lambda crc, size: b"")


_CODECS = {"fast": _fast, "small": _small, "zstd": _zstd}

COMPRESSIONS = tuple(_CODECS)
"""What ``NIXERY_COMPRESSION`` may be."""


@functools.cache
def codec(compression: str) -> Codec:
    """The codec of that name, one of :data:`COMPRESSIONS`.

    :raises ImportError: if its library is not installed.
    """
    return _CODECS[compression]()


def media_type(compression: str) -> str:
    """The media type of layers that are compressed that way."""
    return codec(compression).media_type


@functools.cache
def packer_version(compression: str) -> str:
    """Names all that decides which bytes a layer is packed to; part of every layer key.

    It ends with a digest of a compressed sample: libraries of the same version may differ in
    their output by how they were built or by the processor (isal's on aarch64 is not its output
    on x86-64), and machines where they do must not take one another's layers for their own.
    """
    chosen = codec(compression)
    packed = chosen.compress(memoryview(_sample()))
    fingerprint = hashlib.sha256(packed).hexdigest()[:12]
    return f"{FORMAT} {chosen.version} {chosen.block} {fingerprint}"


def _sample() -> bytes:
    """Some 300 kB that repeat themselves at all distances, as programs and texts do."""
    words = [hashlib.sha256(bytes((index,))).digest()[: 3 + index % 13] for index in range(256)]
    return b"".join(words[index] for index in hashlib.shake_128(b"nixery").digest(1 << 15))


def threads_here() -> int:
    """How many threads compress: one for each processor, up to three, to stay small in memory."""
    return min(3, len(os.sched_getaffinity(0)))


class Packed(NamedTuple):
    """What is known of a layer that was packed.

    :param digest: of the compressed bytes, as ``sha256:…``.
    :param diff_id: the digest of the tar stream.
    :param size: of the compressed bytes.
    :param uncompressed: the size of the tar stream in bytes.
    """

    digest: str
    diff_id: str
    size: int
    uncompressed: int


class _Block(NamedTuple):
    buffer: memoryview
    compressed: Future[bytes]
    accounted: Future[None]


class Compressor:
    """Takes a stream and passes it on compressed; an output for :mod:`nixery.packing.tar`.

    Memory is bounded by a handful of blocks: a sink that is slow holds up the writer. To be used
    as a context manager, by one thread.

    :param sink: is called with the compressed bytes piece by piece, in order; what it raises
        comes out of the method that was called.
    :param threads: how many blocks to compress at once.
    """

    def __init__(self, codec: Codec, sink: Callable[[bytes], object], threads: int) -> None:
        self._codec = codec
        self._sink = sink
        self._pool = ThreadPoolExecutor(threads)
        # One thread: blocks are hashed in their order.
        self._accountant = ThreadPoolExecutor(1)
        self._limit = threads + 1
        self._pending: deque[_Block] = deque()
        self._free: list[memoryview] = []
        self._buffer = memoryview(bytearray(codec.block))
        self._used = 0
        self._inside, self._outside = hashlib.sha256(), hashlib.sha256()
        self._crc = self._size_in = self._size_out = 0
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
        """Pass on the rest. Nothing can be written afterwards."""
        if self._used:
            self._submit()
        while self._pending:
            self._collect()
        self._emit(self._codec.tail(self._crc, self._size_in))
        return Packed(
            "sha256:" + self._outside.hexdigest(),
            "sha256:" + self._inside.hexdigest(),
            self._size_out,
            self._size_in,
        )

    def _submit(self) -> None:
        block = self._buffer[: self._used]
        compressed = self._pool.submit(self._codec.compress, block)
        accounted = self._accountant.submit(self._account, block)
        self._pending.append(_Block(self._buffer, compressed, accounted))
        while len(self._pending) > self._limit or (
            self._pending and self._pending[0].compressed.done()
        ):
            self._collect()
        self._used = 0
        self._buffer = self._free.pop() if self._free else memoryview(bytearray(self._codec.block))

    def _account(self, block: memoryview) -> None:
        self._inside.update(block)
        self._crc = isal_zlib.crc32(block, self._crc)
        self._size_in += len(block)

    def _collect(self) -> None:
        """Pass on the oldest block, when it is ready, and have its buffer back."""
        block = self._pending.popleft()
        self._emit(block.compressed.result())
        block.accounted.result()
        self._free.append(block.buffer)

    def _emit(self, data: bytes) -> None:
        self._outside.update(data)
        self._size_out += len(data)
        if data:
            self._sink(data)
