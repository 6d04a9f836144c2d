"""Makes programs, libraries and scripts use only the store."""

import glob
import os
import struct
import subprocess
from collections.abc import Iterator
from typing import NamedTuple

LOADERS = {"amd64": "ld-linux-x86-64.so.2", "arm64": "ld-linux-aarch64.so.1"}

_ELF64 = b"\x7fELF\x02"
_EXECUTABLE, _SHARED = 2, 3
_LOADED, _DYNAMIC, _INTERPRETER = 1, 2, 3
_WRITABLE = 2


class Segment(NamedTuple):
    """A segment of a program or library.

    :param place: of its header in the file.
    :param start: address, up to ``end``.
    """

    place: int
    kind: int
    flags: int
    start: int
    end: int


def elf_segments(path: str) -> list[Segment] | None:
    """The segments of a 64-bit executable or library; nothing for any other file."""
    with open(path, "rb") as file:
        header = file.read(64)
        if header[:5] != _ELF64 or len(header) < 64:
            return None
        (kind,) = struct.unpack_from("<H", header, 16)
        (offset,) = struct.unpack_from("<Q", header, 32)
        size, count = struct.unpack_from("<HH", header, 54)
        if kind not in (_EXECUTABLE, _SHARED):
            return None
        file.seek(offset)
        table = file.read(size * count)
    found = []
    for place in range(0, size * count, size):
        kind, flags, _, start, _, _, length, _ = struct.unpack_from("<IIQQQQQQ", table, place)
        found.append(Segment(offset + place, kind, flags, start, start + length))
    return found


def make_dynamic_writable(path: str) -> None:
    """Have the loader be able to write to the dynamic section, as it does.

    patchelf 0.18 may leave that section in two segments of a program at once. The one that is
    loaded last counts, and may be read-only.
    """
    segments = elf_segments(path) or []
    dynamic = next(each for each in segments if each.kind == _DYNAMIC)
    with open(path, "r+b") as file:
        for each in segments:
            if each.kind == _LOADED and each.start < dynamic.end and dynamic.start < each.end:
                file.seek(each.place + 4)
                file.write(struct.pack("<I", each.flags | _WRITABLE))


def new_shebang(line: bytes, program: str) -> bytes:
    """A script's first line with another interpreter; its arguments stay, ``env`` goes."""
    words = line[2:].split()
    rest = words[2:] if os.path.basename(words[0]) == b"env" else words[1:]
    return b"#!" + b" ".join([program.encode(), *rest])


def library_folders(bases: list[str]) -> dict[str, str]:
    """Library → the folder that it is in. A package's own libraries may lie a level deeper."""
    tops = [os.path.join(base, "lib") for base in bases]
    deeper = [folder[:-1] for top in tops for folder in sorted(glob.glob(f"{top}/*/"))]
    found: dict[str, str] = {}
    for folder in (*tops, *deeper):
        for name in os.listdir(folder) if os.path.isdir(folder) else ():
            if ".so" in name:
                found.setdefault(name, folder)
    return found


class Patcher:
    """Patches one output.

    :param is_libc: whether it is the C library itself, which is left as it is.
    """

    def __init__(self, out: str, depends: list[str], arch: str, is_libc: bool) -> None:
        self._out = out
        self._bases = [out, *depends]
        self._is_libc = is_libc
        self._libraries = library_folders(self._bases)
        self._loader = self._find("lib", LOADERS[arch])

    def patch_all(self) -> None:
        """Patch every file that needs it."""
        for path in self._files():
            with open(path, "rb") as file:
                head = file.read(4)
            if head[:2] == b"#!" and os.stat(path).st_mode & 0o111:
                self._patch_script(path)
            elif head == _ELF64[:4] and not self._is_libc:
                self._patch_elf(path)

    def _files(self) -> Iterator[str]:
        for folder, _, names in os.walk(self._out):
            paths = (os.path.join(folder, name) for name in names)
            yield from (path for path in paths if not os.path.islink(path))

    def _patch_script(self, path: str) -> None:
        with open(path, "rb") as file:
            line, end, rest = file.read().partition(b"\n")
        words = line[2:].split()
        if words and os.path.basename(words[0]) == b"env":
            words = words[1:]
        if not words:
            return
        program = self._find_program(os.path.basename(words[0]).decode("latin-1"))
        if program is not None:
            with open(path, "wb") as file:
                file.write(new_shebang(line, program) + end + rest)

    def _patch_elf(self, path: str) -> None:
        segments = {each.kind for each in elf_segments(path) or []}
        if _DYNAMIC not in segments:
            return
        needed = _patchelf("--print-needed", path).split()
        folders = [self._libraries[name] for name in needed if name in self._libraries]
        for name in needed:
            if name not in self._libraries:
                print("no library", name, "for", path)
        arguments = ["--set-rpath", ":".join(dict.fromkeys(folders))] if folders else []
        if _INTERPRETER in segments and self._loader:
            arguments += ["--set-interpreter", self._loader]
        if arguments:
            _patchelf(*arguments, path)
            make_dynamic_writable(path)

    def _find_program(self, name: str) -> str | None:
        found = self._find("bin", name)
        return self._find("bin", "bash") if found is None and name in ("sh", "dash") else found

    def _find(self, folder: str, name: str) -> str | None:
        candidates = (os.path.join(base, folder, name) for base in self._bases)
        return next((path for path in candidates if os.path.lexists(path)), None)


def _patchelf(*arguments: str) -> str:
    done = subprocess.run(["patchelf", *arguments], check=True, capture_output=True, text=True)
    return done.stdout
