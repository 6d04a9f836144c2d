"""Store paths, or a list of entries, as one deterministic tar stream.

The stream depends on the packed files alone: relative names in the order of their bytes, mtime 1,
owners without names, 0 except for made-up entries. The format is GNU's (long names as ``L`` and
``K`` records, sizes from 8 GiB on in base 256), which unlike PAX takes names of any bytes.
"""

import stat
from binascii import a2b_base64, b2a_base64
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Literal, NamedTuple

from nixery.packing.tar_stream import (
    END,
    FILE,
    FOLDER,
    LINK,
    PackError,
    TarOutput,
    fault,
    header,
    padding,
)
from nixery.packing.walk import Walk, status_of

FORMAT = "tar-1"
"""The name of this format; it has to change with any change of the bytes."""


class Entry(NamedTuple):
    """A made-up file, folder or symbolic link, not read from a disk.

    :param name: relative, as in ``etc/passwd``; bytes that are not UTF-8 as surrogate escapes.
    :param mode: permission bits, with set-uid, set-gid and sticky; links have none of their own.
    :param content: of a file.
    :param target: of a link, in the form of ``name``.
    :param owner: ID of the user, and of the group, of a folder or file.
    """

    name: str
    kind: Literal["dir", "file", "link"]
    mode: int = 0o777
    content: bytes = b""
    target: str = ""
    owner: int = 0

    def to_json(self) -> list[str | int]:
        """The entry as values that JSON can hold."""
        name, kind, mode, content, target, owner = self
        # Base 64 is far shorter than JSON's escapes.
        return [name, kind, mode, b2a_base64(content).decode("ascii"), target, owner]

    @classmethod
    def from_json(cls, values: Sequence[object]) -> "Entry":
        """The entry that :meth:`to_json` wrote."""
        entry = cls(*values)  # type: ignore[arg-type]
        return entry._replace(content=a2b_base64(entry.content))


def pack(paths: Iterable[tuple[str, str]], entries: Iterable[Entry], out: TarOutput) -> None:
    """Write the tar stream of store paths, with the folders above them, and of made-up entries,
    given in any order.

    :param paths: pairs of a path in the image (``/nix/store/…``) and its place on this machine;
        both absolute, bytes that are not UTF-8 as surrogate escapes.
    :raises PackError: if a file can't be read, changes meanwhile, or is no file, folder or
        symbolic link; for an entry whose name occurs twice, is not relative and plain, or whose
        folder is not among the entries.
    """
    parts = {**_path_parts(paths, out), **_entry_parts(entries, out)}
    for name in sorted(parts):
        parts[name](name)
    out.write(END)


_Part = Callable[[bytes], None]
"""Writes the part of the stream with a given name."""


def _path_parts(paths: Iterable[tuple[str, str]], out: TarOutput) -> dict[bytes, _Part]:
    walk = Walk(out)
    sources = {_relative(logical): _raw(physical) for logical, physical in paths}
    folders = {parent for name in sources for parent in _parents(name)}
    for name in folders & sources.keys():
        raise fault("unsupported", name, "another path to be packed is inside it")
    parts: dict[bytes, _Part] = {name + b"/": partial(_pack_folder, out) for name in folders}
    for name, physical in sources.items():
        parts[_sort_name(name, physical)] = partial(walk.pack, physical=physical)
    return parts


def _entry_parts(entries: Iterable[Entry], out: TarOutput) -> dict[bytes, _Part]:
    table: dict[bytes, Entry] = {}
    for entry in entries:
        name = _relative("/" + entry.name)
        if table.setdefault(name, entry) is not entry:
            raise fault("unsupported", name, "it occurs twice among the entries")
    for name in table:
        parent = name.rpartition(b"/")[0]
        if parent and (parent not in table or table[parent].kind != "dir"):
            raise fault("unsupported", name, "its folder is not among the entries")
    return {
        name + b"/" * (entry.kind == "dir"): partial(_pack_entry, entry, out)
        for name, entry in table.items()
    }


def _pack_folder(out: TarOutput, name: bytes) -> None:
    out.write(header(name, FOLDER, 0o755))


def _pack_entry(entry: Entry, out: TarOutput, name: bytes) -> None:
    if entry.kind == "link":
        out.write(header(name, LINK, 0o777, 0, _raw(entry.target)))
        return
    kind, content = (FILE, entry.content) if entry.kind == "file" else (FOLDER, b"")
    out.write(header(name, kind, entry.mode & 0o7777, len(content), owner=entry.owner))
    out.write(content)
    out.write(padding(len(content)))


def _raw(path: str) -> bytes:
    return path.encode("utf-8", "surrogateescape")


def _relative(path: str) -> bytes:
    raw = _raw(path)
    top, *steps = raw.split(b"/")
    if top or not steps or b"\0" in raw or any(step in (b"", b".", b"..") for step in steps):
        raise PackError("unsupported", raw, "it is not a plain absolute path")
    return raw[1:]


def _parents(name: bytes) -> list[bytes]:
    steps = name.split(b"/")
    return [b"/".join(steps[:count]) for count in range(1, len(steps))]


def _sort_name(name: bytes, physical: bytes) -> bytes:
    mode = status_of(name, physical, None).st_mode
    return name + b"/" if stat.S_ISDIR(mode) else name
