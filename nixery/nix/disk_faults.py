"""What is said of disks without room, in the words of the model."""

import contextlib
import errno
from collections.abc import Iterator

from nixery.model.errors import NixUnavailable, StorageFull

_FULL = (errno.ENOSPC, errno.EDQUOT)
_FULL_STORE = ("No space left on device", "Disk quota exceeded", "database or disk is full")
# Nix looks how full its disks are when a builder has failed, and that is all it says then.
_MAYBE_FULL = "may have been caused by lack of free disk space"


@contextlib.contextmanager
def state_faults() -> Iterator[None]:
    """Turn an ``OSError`` into an error that is answered as what may pass.

    :raises StorageFull: if there was no room, or the quota is used up.
    :raises NixUnavailable: for every other ``OSError``.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise StorageFull("the disk of the state folder") from error
        raise NixUnavailable(f"the state folder: {error.strerror or error}") from error


def full_store(text: str) -> StorageFull | None:
    """What Nix complains of, if it is that there is no room.

    :param text: what it says itself; what builders print is another matter.
    """
    if any(words in text for words in _FULL_STORE):
        return StorageFull("the Nix store's disk")
    if _MAYBE_FULL in text:
        return StorageFull("the disk of the Nix store, or of its builders' temporary files,")
    return None
