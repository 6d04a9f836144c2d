"""What the tests of packing have in common: trees on the disk, and a stream in memory."""

import io
import json
import os
import stat
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from nixery.packing.tar import Entry, pack

Tree = dict[bytes, tuple[str, int, bytes]]


class Stream:
    """An output in memory that may do something whenever a header is written.

    :param buffer: how many bytes are taken at once.
    :param on_write: is called with what was written.
    """

    def __init__(
        self, buffer: int = 1000, on_write: Callable[[bytes], object] = lambda data: None
    ) -> None:
        self.data = bytearray()
        self._buffer = memoryview(bytearray(buffer))
        self._on_write = on_write

    def write(self, data: bytes) -> None:
        self.data += data
        self._on_write(data)

    def space(self) -> memoryview:
        return self._buffer

    def advance(self, count: int) -> None:
        self.data += self._buffer[:count]


def read_tree(top: bytes) -> Tree:
    """All that is below a folder: name → kind, mode, and content or target."""
    found: Tree = {}
    for folder, folders, files in os.walk(top):
        for name in [*folders, *files]:
            path = os.path.join(folder, name)
            found[os.path.relpath(path, top)] = _read_one(path)
    return found


def _read_one(path: bytes) -> tuple[str, int, bytes]:
    mode = os.lstat(path).st_mode
    if stat.S_ISLNK(mode):
        return "link", 0o777, os.readlink(path)
    if stat.S_ISDIR(mode):
        return "dir", stat.S_IMODE(mode), b""
    return "file", stat.S_IMODE(mode), Path(os.fsdecode(path)).read_bytes()


def pack_one(physical: str | Path, buffer: int = 1000) -> bytes:
    """The stream of one store path, ``/nix/store/abc-x``."""
    out = Stream(buffer)
    pack([("/nix/store/abc-x", str(physical))], (), out)
    return bytes(out.data)


def read_stream(stream: bytes) -> Tree:
    """What Python's tarfile finds in a stream, which has nothing of this machine in it."""
    found: Tree = {}
    with tarfile.open(fileobj=io.BytesIO(stream), encoding="utf-8") as archive:
        for member in archive:
            assert (member.mtime, member.uid, member.gid) == (1, 0, 0)
            assert member.type in (tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE)
            kind = {tarfile.DIRTYPE: "dir", tarfile.SYMTYPE: "link"}.get(member.type, "file")
            body = archive.extractfile(member) if kind == "file" else None
            content = body.read() if body else os.fsencode(member.linkname)
            found[os.fsencode(member.name)] = kind, member.mode, content
    return found


def names_in(stream: bytes) -> list[bytes]:
    """The names in a stream, in their order; those of folders end with a slash."""
    with tarfile.open(fileobj=io.BytesIO(stream), encoding="utf-8") as archive:
        return [os.fsencode(member.name) + b"/" * member.isdir() for member in archive]


def entries_file(folder: Path, *entries: Entry) -> str:
    """A file with entries, for a job."""
    with tempfile.NamedTemporaryFile("w", dir=folder, delete=False) as file:
        json.dump([entry.to_json() for entry in entries], file)
    return file.name


@pytest.fixture
def store_path(tmp_path: Path) -> Path:
    """A small store path with a program, a text, a link and an empty folder."""
    top = tmp_path / "store" / "abc-hello-1.0"
    (top / "bin").mkdir(parents=True)
    (top / "empty").mkdir()
    (top / "bin" / "hello").write_bytes(b"#!/bin/sh\necho hello\n" * 9)
    (top / "bin" / "hello").chmod(0o555)
    (top / "read me").write_text("héllo")
    (top / "read me").chmod(0o444)
    (top / "bin" / "hi").symlink_to("hello")
    return top
