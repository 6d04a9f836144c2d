"""What compression made wrong, kept for those who are to mend it."""

import contextlib
import hashlib
import os

from nixery.packing.proof import Wrong

MOST = 16
"""Reports that are kept: each is two files, of the size of a block at most."""


def keep_report(folder: str | None, wrong: Wrong) -> None:
    """Keep what was made of a block, and what is right, side by side: the block itself can be
    had of the latter. That it can't be written is no error, and no more than some are kept.

    :param folder: made if it is not there; none to keep nothing.
    """
    if folder is None:
        return
    name = f"{hashlib.sha256(wrong.wrong).hexdigest()[:32]}.{wrong.codec}"
    with contextlib.suppress(OSError):
        os.makedirs(folder, exist_ok=True)
        if len(os.listdir(folder)) < 2 * MOST:
            _write(os.path.join(folder, f"{name}.right"), wrong.right)
            _write(os.path.join(folder, f"{name}.wrong"), wrong.wrong)


def _write(path: str, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)
