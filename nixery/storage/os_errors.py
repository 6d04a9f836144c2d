"""What the operating system says, in the words of the storage."""

import contextlib
import errno
from collections.abc import Iterator

from nixery.model.errors import StorageFull, StorageUnavailable

_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextlib.contextmanager
def storage_faults(folder: str) -> Iterator[None]:
    """Turn an ``OSError`` into an error of the storage.

    :param folder: is named where the system names no file.
    :raises StorageFull: if there was no room, or the quota is used up.
    :raises StorageUnavailable: for every other ``OSError``, with its path and reason.
    """
    try:
        yield
    except OSError as error:
        if is_full(error):
            raise StorageFull() from error
        # A rename has two names.
        names = [name for name in (error.filename, error.filename2) if name] or [folder]
        path = " → ".join(map(str, names))
        # The reason first: of what follows, clients may show as much as a line has room for.
        raise StorageUnavailable(f"{error.strerror or error} ({path})") from error


def is_full(error: OSError) -> bool:
    """Whether an error says that there is no room."""
    return error.errno in _FULL
