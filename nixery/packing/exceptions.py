"""What can go wrong in a packing process."""

from typing import Literal

Failing = Literal["unreadable", "changed", "unsupported", "damaged", "storage_full", "io"]


class PackError(Exception):
    """A layer can't be packed; what was written of it is worthless.

    :param kind: ``unreadable`` (the system refuses to read it), ``changed`` (it changed or
        vanished while it was packed), ``unsupported`` (no layer can hold it), ``damaged`` (what is
        compressed does not decompress to it), ``storage_full`` and ``io`` (what is packed can't be
        written).
    :param path: the file at fault, absolute.
    :param message: what is wrong with it, to be read after its path.
    """

    def __init__(self, kind: Failing, path: bytes, message: str) -> None:
        super().__init__(kind, path, message)
        self.kind = kind
        self.path = path
        self.message = message


def fault(kind: Failing, name: bytes, message: str) -> PackError:
    """The error for a name within the stream, which is relative."""
    return PackError(kind, b"/" + name.rstrip(b"/"), message)
