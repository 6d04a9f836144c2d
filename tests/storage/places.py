"""The storage in a folder as a backend of the contract, and the places it may be in."""

import contextlib
import ctypes
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor as _reactor

from nixery.interfaces import BlobFile, Location
from nixery.model.digest import Digest
from nixery.storage.filesystem.filesystem_storage import FilesystemStorage

reactor: Any = _reactor

_NOBODY = 65534
_LIBC = ctypes.CDLL(None, use_errno=True)
_MNT_DETACH = 2


@contextlib.contextmanager
def mounted(folder: Path, options: str) -> Iterator[None]:
    """A file system in memory on a folder, which is made if it is not there."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount")
    folder.mkdir(exist_ok=True)
    place = os.fsencode(folder)
    _checked(_LIBC.mount(b"tmpfs", place, b"tmpfs", 0, options.encode()))
    try:
        yield
    finally:
        # Threads that nobody waits for any more may have a file open.
        _checked(_LIBC.umount2(place, _MNT_DETACH))


def _checked(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


@contextlib.contextmanager
def unprivileged() -> Iterator[Path]:
    """A folder of an ordinary user, who the process is meanwhile: root may read everything."""
    folder = Path(tempfile.mkdtemp())
    user = os.geteuid()
    if user == 0:
        os.chown(folder, _NOBODY, _NOBODY)
        os.seteuid(_NOBODY)
    try:
        yield folder
    finally:
        os.seteuid(user)
        shutil.rmtree(folder)


class FolderBackend:
    """A folder that several instances share."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def open(self) -> FilesystemStorage:
        storage = FilesystemStorage(reactor, str(self._folder / "storage"))
        await storage.start()
        return storage

    async def damage(self, digest: Digest, content: bytes | None) -> None:
        """As hard to notice as can be: in place, with the time of the last change restored."""
        path = self._folder / "storage" / "layers" / digest.hex
        if content is None:
            path.unlink()
            return
        before = path.stat()
        path.write_bytes(content)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    @contextlib.contextmanager
    def full(self) -> Iterator[None]:
        if not os.path.ismount(self._folder):
            pytest.skip("only a disk of the test's own may be filled up")
        filler = self._folder / "filler"
        filler.write_bytes(b"")
        while shutil.disk_usage(self._folder).free:
            with filler.open("ab", 0) as file:
                file.write(bytes(4096))
        yield
        filler.unlink()

    async def load(self, location: Location) -> bytes:
        assert isinstance(location, BlobFile)
        content = Path(location.path).read_bytes()
        assert len(content) == location.size
        return content
