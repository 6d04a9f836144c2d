"""``/etc/ld.so.cache``: where the loader of the C library (glibc's) finds libraries.

Programs ask ``ldconfig -p``, which prints it, for the libraries of a system. The format is that of
glibc's ``dl-cache.h``, version 1.1: a header, entries in the descending order of names, the names.
"""

import re
import struct
from collections.abc import Iterable

from nixery.model.image import AMD64, ARM64

_MAGIC = b"glibc-ld.so.cache1.1"
_LITTLE_ENDIAN = 2
_FLAGS = {AMD64: 0x0303, ARM64: 0x0A03}
"""What a library is for: the C library of version 6, on each architecture."""
_HEADER = struct.Struct("<20sIIB3x16x")
_ENTRY = struct.Struct("<iIIIQ")
_STEP = re.compile(r"([0-9]+)|.")


def loader_cache(system: str, folder: str, libraries: Iterable[str]) -> bytes:
    """The cache of the libraries in a folder.

    :param system: the Nix system that they are for.
    :param folder: absolute path.
    :param libraries: file names.
    """
    names = sorted(libraries, key=lambda name: (_order(name), name), reverse=True)
    entries, texts = b"", b""
    start = _HEADER.size + _ENTRY.size * len(names)
    for name in names:
        path = f"{folder}/{name}\0".encode()
        # The name is the end of the path.
        where = start + len(texts)
        entries += _ENTRY.pack(_FLAGS[system], where + len(folder.encode()) + 1, where, 0, 0)
        texts += path
    return _HEADER.pack(_MAGIC, len(names), len(texts), _LITTLE_ENDIAN) + entries + texts


def _order(name: str) -> list[tuple[bool, int]]:
    """How glibc compares names: numbers by their values, and after all other characters."""
    steps = _STEP.finditer(name)
    return [(True, int(s[0])) if s[1] is not None else (False, ord(s[0])) for s in steps]
