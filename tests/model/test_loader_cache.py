"""The cache of the C library's loader."""

import struct

from hypothesis import given
from hypothesis import strategies as st

from nixery.model.image import AMD64, ARM64
from nixery.model.loader_cache import loader_cache


def parse(cache: bytes) -> list[tuple[int, str, str]]:
    """The entries of a cache, as glibc reads it: flags, name, path."""
    magic, count, texts, order = struct.unpack_from("<20sIIB", cache)
    assert (magic, order) == (b"glibc-ld.so.cache1.1", 2)
    assert len(cache) == 48 + 24 * count + texts

    def text(start: int) -> str:
        return cache[start : cache.index(b"\0", start)].decode()

    entries = struct.iter_unpack("<iIIIQ", cache[48 : 48 + 24 * count])
    return [(flags, text(name), text(path)) for flags, name, path, _, _ in entries]


def test_a_cache() -> None:
    """Libraries have their names and paths, and the mark of their architecture."""
    names = ["libc.so.6", "libstdc++.so.6"]
    assert parse(loader_cache(AMD64, "/lib/x", names)) == [
        (0x0303, "libstdc++.so.6", "/lib/x/libstdc++.so.6"),
        (0x0303, "libc.so.6", "/lib/x/libc.so.6"),
    ]
    assert {flags for flags, _, _ in parse(loader_cache(ARM64, "/lib/x", names))} == {0x0A03}
    assert parse(loader_cache(AMD64, "/lib/x", [])) == []


def test_the_order() -> None:
    """The loader searches by halves: numbers count by their values, and come before letters."""
    expected = ["liba10.so", "liba9.so", "liba.so.10", "liba.so.9", "liba.so", "liba"]
    assert [n for _, n, _ in parse(loader_cache(AMD64, "/l", sorted(expected)))] == expected


@given(st.sets(st.text("ab1290._", min_size=1)))
def test_nothing_depends_on_the_order_of_names(names: set[str]) -> None:
    """The same libraries make the same bytes."""
    ordered = [name for _, name, _ in parse(loader_cache(AMD64, "/l", names))]
    assert set(ordered) == names
    assert loader_cache(AMD64, "/l", sorted(names)) == loader_cache(AMD64, "/l", names)
