"""A layer's tar stream: its output, GNU tar's headers, and the error of what can't be packed."""

from typing import Literal, Protocol

FILE, LINK, FOLDER = b"0", b"2", b"5"
END = bytes(1024)
"""The end of a tar stream."""

_LONG_NAME, _LONG_TARGET = b"L", b"K"
_NAME_LIMIT = 100
_OCTAL_LIMIT = 8**11

_MTIME = b"00000000001\0"
_MAGIC = b"ustar  \0".ljust(255, b"\0")
_FIXED_SUM = sum(_MTIME) + sum(_MAGIC) + 8 * ord(" ")
_ZEROS = bytes(512)


Failing = Literal["unreadable", "changed", "unsupported", "damaged", "storage_full", "io"]


class PackError(Exception):
    """A layer can't be packed; what was written of it is worthless.

    :param kind: ``unreadable`` (the system refuses to read a file), ``changed`` (it changed or
        vanished while it was packed), ``unsupported`` (no layer can hold it), ``damaged`` (its
        compressed form decompresses to something else), ``storage_full`` and ``io`` (the layer
        can't be written).
    :param path: the file at fault, absolute.
    :param message: what is wrong with it, to be read after its path.
    """

    def __init__(self, kind: Failing, path: bytes, message: str) -> None:
        super().__init__(kind, path, message)
        self.kind = kind
        self.path = path
        self.message = message


def fault(kind: Failing, name: bytes, message: str) -> PackError:
    """The error for an entry of the stream, whose name is relative."""
    return PackError(kind, b"/" + name.rstrip(b"/"), message)


class TarOutput(Protocol):
    """Takes the stream: a buffer that empties itself when it is full."""

    def write(self, data: bytes) -> None:
        """Append bytes."""

    def space(self) -> memoryview:
        """The rest of the buffer, never empty, to be filled from its start."""

    def advance(self, count: int) -> None:
        """Append the first ``count`` bytes of :meth:`space`."""


def header(
    name: bytes, kind: bytes, mode: int, size: int = 0, target: bytes = b"", owner: int = 0
) -> bytes:
    """The header of one entry, preceded by records for long names.

    :param name: relative; that of a folder ends with a slash.
    :param kind: :data:`FILE`, :data:`LINK` or :data:`FOLDER`.
    :param mode: permission bits.
    :param size: bytes of the body that follows.
    :param owner: ID of the user, and of the group.
    """
    before = b""
    if len(target) > _NAME_LIMIT:
        before = _long(_LONG_TARGET, target)
    if len(name) > _NAME_LIMIT:
        before += _long(_LONG_NAME, name)
    return before + _block(name[:_NAME_LIMIT], kind, mode, size, target[:_NAME_LIMIT], owner)


def _long(kind: bytes, name: bytes) -> bytes:
    size = len(name) + 1
    return _block(b"././@LongLink", kind, 0, size, b"") + name + b"\0" + padding(size)


def _block(name: bytes, kind: bytes, mode: int, size: int, target: bytes, owner: int = 0) -> bytes:
    modes = b"%07o\0" % mode + b"%07o\0" % owner * 2
    sizes = b"%011o\0" % size if size < _OCTAL_LIMIT else b"\x80" + size.to_bytes(11, "big")
    total = _FIXED_SUM + sum(name) + sum(modes) + sum(sizes) + kind[0] + sum(target)
    head = name.ljust(_NAME_LIMIT, b"\0") + modes + sizes + _MTIME
    return head + b"%06o\0 " % total + kind + target.ljust(_NAME_LIMIT, b"\0") + _MAGIC


def padding(size: int) -> bytes:
    """The bytes that fill up the last block of a body of ``size`` bytes."""
    return _ZEROS[: -size % 512]
