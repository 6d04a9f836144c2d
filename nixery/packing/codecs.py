"""Codecs: ways to compress the blocks of a layer, and to decompress them again.

Each block is compressed on its own. gzip output is one member, whose blocks end on a byte boundary
by a sync flush, as in pigz. zstd output is one frame for each block.
"""

import functools
import hashlib
import zlib
from collections.abc import Callable
from typing import NamedTuple

import deflate
import isal
from isal import isal_zlib

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

    :param version: names everything on which the bytes depend, such as the library.
    :param media_type: of the layer.
    :param block: bytes of a block.
    :param compress: compresses a block.
    :param decompress: restores a block of a given size; for other data it returns something else,
        or raises any exception.
    :param fallback: compresses a block in another way, for the same ``decompress``.
    :param head: the beginning of the output.
    :param tail: makes the end of the output from the stream's CRC-32 and its size in bytes.
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
    """Inflate a block, by another library than those that compress."""
    # With one more byte after it, to check that the block ends on a byte boundary.
    again = memoryview(deflate.deflate_decompress(data + _SENTINEL, size + 1))
    if again[-1:] != _SENTINEL[-1:]:
        raise ValueError("it does not end where the next block begins")
    return again[:-1]


def _fast() -> Codec:
    ways = _isal_block, _inflated, _zlib_block
    named = f"isal-{isal.__version__}-2"
    return Codec(named, _GZIP_MEDIA_TYPE, _MIB, *ways, _GZIP_HEAD, _gzip_tail)


def _small() -> Codec:
    # zlib may make the same mistake again: so the fallback stores the block as it is.
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
    """A zstd frame with a block as it is."""
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
"""The values of ``NIXERY_COMPRESSION``."""


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
    """Names everything that decides the bytes of a layer; part of every layer key.

    It ends with a digest of a compressed sample: the output of one version of a library may depend
    on its build or on the processor (isal's differs between aarch64 and x86-64), and then machines
    must not take one another's layers for their own.
    """
    chosen = codec(compression)
    packed = chosen.compress(memoryview(_sample()))
    fingerprint = hashlib.sha256(packed).hexdigest()[:12]
    return f"{FORMAT} {chosen.version} {chosen.block} {fingerprint}"


def _sample() -> bytes:
    """About 300 kB with repetitions at all distances, as in programs and texts."""
    words = [hashlib.sha256(bytes((index,))).digest()[: 3 + index % 13] for index in range(256)]
    return b"".join(words[index] for index in hashlib.shake_128(b"nixery").digest(1 << 15))
