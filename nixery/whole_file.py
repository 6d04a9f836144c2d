"""Files that are there whole or not at all, whatever happens meanwhile. Everything blocks."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from typing import BinaryIO


@contextlib.contextmanager
def whole_file(
    path: str,
    beside: str | None = None,
    aside: str | None = None,
    mode: int | None = None,
    lasting: bool = True,
) -> Iterator[BinaryIO]:
    """Write a file, which is in its place and safe against a power cut when the block ends; if the
    block fails, nothing has changed.

    :param beside: where it is written, on the same file system; the default is ``path`` and
        ``.new``, for files with one writer: what that has left when it was killed is written over.
    :param aside: a path for a folder that may be in the place; without one, that is an error.
    :param mode: the file's permissions; without it, those that the umask leaves.
    :param lasting: False for what may be lost in a power cut, and may be cut by one: it saves two
        waits for the disk.
    :raises OSError: if the file can't be written.
    """
    beside = f"{path}.new" if beside is None else beside
    try:
        with open(beside, "wb") as file:
            if mode is not None:
                os.fchmod(file.fileno(), mode)
            yield file
            file.flush()
            if lasting:
                os.fsync(file.fileno())
        put_in_place(beside, path, aside)
        if lasting:
            sync_folder(os.path.dirname(path))
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(beside)
        raise


def put_in_place(beside: str, path: str, aside: str | None = None) -> None:
    """Rename a file; parameters as those of :func:`whole_file`. The folder of the path is made if
    it is not there, and is not synced."""
    parent = os.path.dirname(path)
    if not os.path.isdir(parent):
        os.makedirs(parent, exist_ok=True)
        sync_folder(os.path.dirname(parent))
    try:
        os.replace(beside, path)
    except IsADirectoryError:
        if aside is None:
            raise
        os.rename(path, aside)
        os.replace(beside, path)
        shutil.rmtree(aside)


def sync_folder(path: str) -> None:
    """Make sure that the names in a folder outlast a power cut."""
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
