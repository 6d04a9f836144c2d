"""Faults of disks, those without room among them, as errors of the model."""

import contextlib
import errno
from collections.abc import Iterator

from nixery.model.service_errors import NixUnavailable, StorageFull

_FULL = (errno.ENOSPC, errno.EDQUOT)
_FULL_STORE = ("No space left on device", "Disk quota exceeded", "database or disk is full")
# When a builder has failed, Nix checks its disks, and says no more than this.
_MAYBE_FULL = "may have been caused by lack of free disk space"


@contextlib.contextmanager
def state_faults() -> Iterator[None]:
    """Turn an ``OSError`` into an error that is answered as temporary.

    :raises StorageFull: if there was no room, or the quota is used up.
    :raises NixUnavailable: for every other ``OSError``.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise StorageFull("the disk of the state folder") from error
        raise NixUnavailable(
            f"the state folder can't be used: {error.strerror or error}"
        ) from error


def full_store(text: str) -> StorageFull | None:
    """The error for a message of Nix that complains of a full disk, if it does.

    :param text: Nix's own; what builders print does not count.
    """
    if any(words in text for words in _FULL_STORE):
        return StorageFull("the Nix store's disk")
    if _MAYBE_FULL in text:
        return StorageFull("the disk of the Nix store, or of its builders' temporary files,")
    return None
