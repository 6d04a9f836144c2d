"""Which blobs go when there are too many: pure."""

from collections.abc import Iterable

import attrs

AFTER = 0.9
"""How full a storage is, of what it may be, after some were dropped: not to do it all the time."""


@attrs.frozen
class Used:
    """A blob, and when it was of use.

    :param name: hexadecimal digits of its digest.
    :param size: bytes.
    :param time: of its last use, in seconds since the epoch. All blobs of an image have about
        the same, since a pull uses them all: so they go together, unless they are shared.
    """

    name: str
    size: int
    time: float


def surplus(blobs: Iterable[Used], most: int, now: float, grace: float) -> list[Used]:
    """The blobs that are to be dropped: those of least recent use, as many as it takes.

    :param most: bytes that all may have together.
    :param grace: seconds after its last use in which a blob is not dropped, whatever the cost:
        the image that it is of may still be pulled, or made.
    """
    known = sorted(blobs, key=lambda blob: (blob.time, blob.name))
    total = sum(blob.size for blob in known)
    gone: list[Used] = []
    if total <= most:
        return gone
    for blob in known:
        if total <= most * AFTER or blob.time > now - grace:
            break
        gone.append(blob)
        total -= blob.size
    return gone
