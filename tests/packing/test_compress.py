"""Compression: what comes out is the same everywhere, and others can read it."""

import gzip
import hashlib
import itertools
import random
import subprocess
import threading
import zlib
from collections.abc import Callable

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from nixery.packing.codecs import COMPRESSIONS, Codec, codec
from nixery.packing.compress import Compressed, Compressor, WrongBlock
from nixery.packing.tar_stream import PackError

BLOCK = 4096
CODECS = st.sampled_from(COMPRESSIONS)


def _small_blocks(compression: str) -> Codec:
    return codec(compression)._replace(block=BLOCK)


def _compress(
    codec: Codec, data: bytes, threads: int = 2, piece: int = 1000
) -> tuple[bytes, Compressed]:
    out = bytearray()
    with Compressor(codec, out.extend, threads) as compressor:
        for start in range(0, len(data), piece):
            compressor.write(data[start : start + piece])
        packed = compressor.finish()
    return bytes(out), packed


def _decompress(compression: str, data: bytes) -> bytes:
    if compression == "zstd":
        with zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True) as reader:
            return reader.read()
    return gzip.decompress(data)


def _text(size: int, seed: int = 1) -> bytes:
    chance = random.Random(seed)
    words = [chance.randbytes(chance.randrange(2, 12)) for _ in range(100)]
    return b"".join(chance.choices(words, k=size // 2 + 1))[:size]


@settings(deadline=None, max_examples=60)
@given(
    compression=CODECS,
    blocks=st.integers(0, 6),
    more=st.sampled_from([-1, 0, 1, 7]),
    threads=st.integers(1, 4),
    piece=st.integers(1, 3 * BLOCK),
)
def test_the_same_for_any_threads_and_pieces(
    compression: str, blocks: int, more: int, threads: int, piece: int
) -> None:
    """The output depends on the data alone; all that is said of it is true."""
    data = _text(max(0, blocks * BLOCK + more))
    out, packed = _compress(_small_blocks(compression), data, threads, piece)
    assert _decompress(compression, out) == data
    assert (out, packed) == _compress(_small_blocks(compression), data, 1, BLOCK)
    digests = ["sha256:" + hashlib.sha256(part).hexdigest() for part in (out, data)]
    assert packed == (*digests, len(out), len(data), 0)


@pytest.mark.program
@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_programs_read_it(compression: str) -> None:
    """gzip(1) and zstd(1) read several real blocks without complaint."""
    data = _text(5 << 20)
    out, _ = _compress(codec(compression), data, piece=1 << 20)
    program = "zstd" if compression == "zstd" else "gzip"
    run = subprocess.run([program, "-dc"], input=out, capture_output=True, check=True)
    assert run.stdout == data
    assert run.stderr == b""


@pytest.mark.parametrize("compression", ["fast", "small"])
@pytest.mark.parametrize("size", [0, 1, 3 * BLOCK])
def test_gzip_is_one_member_of_nothing_else(compression: str, size: int) -> None:
    """There is one gzip member, with nothing of the time or the system in its header."""
    out, _ = _compress(_small_blocks(compression), _text(size))
    member = zlib.decompressobj(31)
    assert member.decompress(out) == _text(size)
    assert member.eof
    assert member.unused_data == b""
    assert out[:10] == b"\x1f\x8b\x08\0\0\0\0\0\0\xff"


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_what_can_not_be_compressed(compression: str) -> None:
    """Data without any order grows by less than a thousandth."""
    data = random.Random(3).randbytes(2 << 20)
    out, _ = _compress(codec(compression), data, piece=1 << 20)
    assert len(out) < len(data) * 1.001


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_a_stream_that_fails_leaves_no_thread(compression: str) -> None:
    """What the sink raises reaches the writer, and no thread goes on."""

    class Full(Exception):
        pass

    pieces = itertools.count()

    def sink(data: bytes) -> None:
        if next(pieces) > 1:
            raise Full

    def run() -> None:
        with Compressor(_small_blocks(compression), sink, 3) as compressor:
            for _ in range(100):
                compressor.write(_text(BLOCK))

    before = threading.active_count()
    with pytest.raises(Full):
        run()
    assert threading.active_count() == before


Fault = Callable[[bytes], bytes]

FAULTS: dict[str, Fault] = {
    "a bit": lambda data: data[:9] + bytes([data[9] ^ 16]) + data[10:],
    "cut": lambda data: data[:-1],
    "nothing": lambda data: b"",
    "more": lambda data: data + b"\0",
    "twice": lambda data: data + data,
}


def _faulty(compression: str, which: int, fault: Fault) -> Codec:
    """A codec whose first way goes wrong with one of the blocks, the first being 0."""
    right = _small_blocks(compression)
    blocks = itertools.count()

    def compress(block: memoryview) -> bytes:
        data = right.compress(block)
        return fault(data) if next(blocks) == which else data

    return right._replace(compress=compress)


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize("which", [0, 2, 4])
@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_wrong_blocks_are_replaced(compression: str, which: int, fault: Fault) -> None:
    """A block that does not decompress to what went in is compressed in another way; what is said
    of the layer holds for what is kept; and both outputs are told of."""
    data = _text(5 * BLOCK - 7)
    wrong: list[WrongBlock] = []
    codec = _faulty(compression, which, fault)
    out = bytearray()
    with Compressor(codec, out.extend, 1, wrong.append) as compressor:
        compressor.write(data)
        packed = compressor.finish()
    assert _decompress(compression, bytes(out)) == data
    digests = ["sha256:" + hashlib.sha256(part).hexdigest() for part in (out, data)]
    assert packed == (*digests, len(out), len(data), 1)
    block = memoryview(data)[which * BLOCK : (which + 1) * BLOCK]
    good = _small_blocks(compression)
    assert wrong == [(codec.version, fault(good.compress(block)), good.fallback(block))]


@pytest.mark.parametrize("compression", ["fast", "small"])
def test_an_early_end_is_wrong(compression: str) -> None:
    """A block that ends the stream, behind which nobody would read on, is replaced."""
    good = _small_blocks(compression)

    def ending(block: memoryview) -> bytes:
        return zlib.compress(block, wbits=-15)

    out, packed = _compress(good._replace(compress=ending), _text(2 * BLOCK))
    assert packed.replaced == 2
    assert _decompress(compression, out) == _text(2 * BLOCK)


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_second_ways(compression: str) -> None:
    """The second way of each codec makes blocks of any size that others can read."""
    good = _small_blocks(compression)
    for size in (1, BLOCK, 128 * 1024, 300_001):
        codec = good._replace(block=size, compress=good.fallback)
        out, packed = _compress(codec, _text(2 * size))
        assert packed.replaced == 0
        assert _decompress(compression, out) == _text(2 * size)


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_nothing_wrong_is_passed_on(compression: str) -> None:
    """Where both ways go wrong there is no layer."""
    good, out = _small_blocks(compression), bytearray()
    codec = good._replace(compress=lambda block: b"", fallback=lambda block: b"")

    def run() -> None:
        with Compressor(codec, out.extend, 2) as compressor:
            compressor.write(_text(BLOCK))
            compressor.finish()

    with pytest.raises(PackError, match="it changed while it was compressed"):
        run()
    assert bytes(out) == good.head


def test_a_slow_sink_holds_up_the_writer() -> None:
    """No more blocks wait for a sink than are being compressed, and two."""
    written = 0
    lead: list[int] = []
    with Compressor(_small_blocks("fast"), lambda data: lead.append(written), 2) as compressor:
        for count in range(1, 50):
            written = count
            compressor.write(_text(BLOCK))
        compressor.finish()
    # The head comes first and the tail last; block n (from 1) is the n-th piece after the head.
    assert all(at - block <= 5 for block, at in enumerate(lead[1:-1], 1))
