"""Folders of garbage collector roots, which are links into the store. Blocks."""

import os
import re
from contextlib import suppress

_NAME = re.compile(r"[0-9a-f]{32}")


def is_roots(name: str) -> bool:
    """Whether a name has the form that such folders have."""
    return _NAME.fullmatch(name) is not None


def remove_roots(folder: str) -> bool:
    """Remove such a folder. What is no link stays, and the folder with it.

    :return: whether it is no more.
    """
    with suppress(OSError):
        for entry in os.scandir(folder):
            if entry.is_symlink():
                os.unlink(entry.path)
        os.rmdir(folder)
        return True
    return False
