"""What the operating system says of the state folder, in the words of the model."""

import contextlib
import errno
from collections.abc import Iterator

from nixery.model.errors import NixUnavailable, StorageFull

_FULL = (errno.ENOSPC, errno.EDQUOT)


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
