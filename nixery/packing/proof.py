"""Proof that a block decompresses to what was compressed.

Libraries of compression have had faults, and memory has them.
"""

from collections.abc import Callable
from typing import NamedTuple

import deflate

from nixery.packing.codecs import Codec


class Wrong(NamedTuple):
    """A block of which compression made something else.

    :param codec: its version.
    :param wrong: what that was.
    :param right: what the block was compressed to instead.
    """

    codec: str
    wrong: bytes
    right: bytes


class Proven(NamedTuple):
    """What a block was compressed to.

    :param crc: CRC-32 of what that decompresses to; none if it does not.
    """

    data: bytes
    crc: int | None


def prove(codec: Codec, compress: Callable[[memoryview], bytes], block: memoryview) -> Proven:
    """Compress a block, and find out what that decompresses to."""
    data = compress(block)
    try:
        again = codec.decompress(data, len(block))
    except Exception:  # each library has errors of its own
        return Proven(data, None)
    # Not isal's CRC-32, which that of the input is: neither is taken on its own word.
    return Proven(data, deflate.crc32(again) if len(again) == len(block) else None)
