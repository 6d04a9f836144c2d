"""Compression of a tar stream in exact blocks, several at once, with both digests beside it.

A block is compressed without regard to its neighbours, so that the result depends neither on the
number of threads nor on how the stream arrived. gzip output is one member: its blocks end on a
byte boundary by a sync flush, as pigz does it. zstd output is one frame for each block.

Each block is decompressed again at once, and compared with what went in: libraries of compression
have had faults, and memory has them. A block that is not the same is compressed in a second way.
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

import deflate
import isal
from isal import isal_zlib

from nixery.packing.faults import PackError
from nixery.packing.tar import FORMAT

_GZIP_HEAD = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"  # no flags, no time, no system
_GZIP_LAST_BLOCK = b"\x03\0"
_SENTINEL = b"\x01\x01\0\xfe\xff!"  # deflate's last block, which holds one byte as it is
_GZIP_MEDIA_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"
_ZSTD_MEDIA_TYPE = "application/vnd.oci.image.layer.v1.tar+zstd"
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_ZSTD_LARGEST = 128 * 1024  # bytes that a block of a frame may have
_MIB = 1 << 20


class Codec(NamedTuple):
    """A way to compress.

    :param version: names the library and everything else on which the bytes depend.
    :param media_type: of the layer.
    :param block: the size of a block in bytes.
    :param compress: makes of one block what stands for it in the output.
    :param decompress: makes a block of so many bytes of that again; of other data something
        else, or it raises something.
    :param fallback: compresses a block in another way, for the same ``decompress``.
    :param head: what the output begins with.
    :param tail: makes what it ends with, of the stream's CRC-32 and its size in bytes.
    """

    version: str
    media_type: str
    block: int
    compress: Callable[[memoryview], bytes]
    decompress: Callable[[bytes, int], bytes | memoryview]
    fallback: Callable[[memoryview], bytes]
    head: bytes
    tail: Callable[[int, int], bytes]


def _gzip_tail(crc: int, size: int) -> bytes:
    return _GZIP_LAST_BLOCK + crc.to_bytes(4, "little") + (size % 2**32).to_bytes(4, "little")


def _isal_block(block: memoryview) -> bytes:
    # Level 2: 1-2 % smaller than level 1 for 5 % of its speed. The output of both is the same on
    # every x86-64-v2 machine, whatever vector instructions it has; that of level 3 is not.
    stream = isal_zlib.compressobj(2, isal_zlib.DEFLATED, -15)
    return stream.compress(block) + stream.flush(isal_zlib.Z_SYNC_FLUSH)


def _zlib_block(block: memoryview, level: int = 6) -> bytes:
    stream = zlib.compressobj(level, zlib.DEFLATED, -15)
    return stream.compress(block) + stream.flush(zlib.Z_SYNC_FLUSH)


def _inflated(data: bytes, size: int) -> memoryview:
    """A block of deflated data, by neither of the libraries that compress."""
    # A byte more is behind it: what follows it begins where a byte does, and is read.
    again = memoryview(deflate.deflate_decompress(data + _SENTINEL, size + 1))
    if again[-1:] != _SENTINEL[-1:]:
        raise ValueError("it does not end where the next block begins")
    return again[:-1]


def _fast() -> Codec:
    ways = _isal_block, _inflated, _zlib_block
    named = f"isal-{isal.__version__}-2"
    return Codec(named, _GZIP_MEDIA_TYPE, _MIB, *ways, _GZIP_HEAD, _gzip_tail)


def _small() -> Codec:
    # What zlib does wrong, it may do wrong again: then the block is stored as it is.
    ways = _zlib_block, _inflated, functools.partial(_zlib_block, level=0)
    named = f"zlib-{zlib.ZLIB_RUNTIME_VERSION}-6"
    return Codec(named, _GZIP_MEDIA_TYPE, _MIB, *ways, _GZIP_HEAD, _gzip_tail)


def _zstd() -> Codec:
    import zstandard

    def compress(block: memoryview) -> bytes:
        return zstandard.ZstdCompressor(level=3).compress(block)

    def decompress(data: bytes, size: int) -> bytes:
        if zstandard.frame_content_size(data) != size:
            raise ValueError("it is of another size")
        return zstandard.ZstdDecompressor().decompress(data, allow_extra_data=False)

    ways = compress, decompress, _zstd_stored
    named = "zstd-" + ".".join(map(str, zstandard.ZSTD_VERSION)) + "-3"
    return Codec(named, _ZSTD_MEDIA_TYPE, 2 * _MIB, *ways, b"", lambda crc, size: b"")


def _zstd_stored(block: memoryview) -> bytes:
    """A zstd frame that holds a block as it is; zlib's output can't stand in a zstd layer."""
    # https://github.com/facebook/zstd/blob/dev/doc/zstd_compression_format.md: a single segment,
    # its size in four bytes; then raw blocks, each behind 3 bytes: last, kind 0, size.
    pieces = [_ZSTD_MAGIC, b"\xa0", len(block).to_bytes(4, "little")]
    for start in range(0, len(block), _ZSTD_LARGEST):
        piece = block[start : start + _ZSTD_LARGEST]
        last = start + len(piece) == len(block)
        pieces += [(len(piece) << 3 | last).to_bytes(3, "little"), bytes(piece)]
    return b"".join(pieces)


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


class Wrong(NamedTuple):
    """A block of which compression made something else.

    :param codec: its version.
    :param wrong: what that was.
    :param right: what the block was compressed to instead.
    """

    codec: str
    wrong: bytes
    right: bytes


class _Proven(NamedTuple):
    """What a block was compressed to.

    :param crc: CRC-32 of what that decompresses to; none if it does not.
    """

    data: bytes
    crc: int | None


class _Block(NamedTuple):
    """A block in the making.

    :param crc: CRC-32 of what was hashed.
    """

    buffer: memoryview
    size: int
    proven: Future[_Proven]
    crc: Future[int]


def _prove(codec: Codec, compress: Callable[[memoryview], bytes], block: memoryview) -> _Proven:
    """Compress a block, and find out what that decompresses to."""
    data = compress(block)
    try:
        again = codec.decompress(data, len(block))
    except Exception:  # each library has errors of its own
        return _Proven(data, None)
    return _Proven(data, isal_zlib.crc32(again) if len(again) == len(block) else None)


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
        # One thread: blocks are hashed in their order.
        self._accountant = ThreadPoolExecutor(1)
        self._limit = threads + 1
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
        return Packed(
            "sha256:" + self._outside.hexdigest(),
            "sha256:" + self._inside.hexdigest(),
            self._size_out,
            self._size_in,
            self._replaced,
        )

    def _submit(self) -> None:
        block = self._buffer[: self._used]
        proven = self._pool.submit(_prove, self._codec, self._codec.compress, block)
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

    def _replacement(self, block: _Block, wrong: _Proven, crc: int) -> bytes:
        """A block compressed in the second way."""
        right = _prove(self._codec, self._codec.fallback, block.buffer[: block.size])
        if right.crc != crc:
            # Not a library: memory, or a processor, that changes what it is given.
            raise PackError("damaged", b"", "it changes while it is compressed, in either way")
        self._replaced += 1
        self._on_wrong(Wrong(self._codec.version, wrong.data, right.data))
        return right.data

    def _emit(self, data: bytes) -> None:
        self._outside.update(data)
        self._size_out += len(data)
        if data:
            self._sink(data)
