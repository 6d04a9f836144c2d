"""What the builder does to the files of a Debian package."""

import io
import os
import struct
import tarfile
from pathlib import Path

import pytest
from layout import Layout, place
from patch import elf_segments, library_folders, make_dynamic_writable, new_shebang
from wrap import export, substitute, wrap_programs


@pytest.mark.parametrize(
    ("path", "placed"),
    [
        ("usr/bin/x", "bin/x"),
        ("sbin/x", "bin/x"),
        ("usr/games/x", "bin/x"),
        ("lib/x86_64-linux-gnu/libx.so", "lib/libx.so"),
        ("usr/lib/x86_64-linux-gnu/libx.so", "lib/libx.so"),
        ("lib64/ld-linux-x86-64.so.2", "lib/ld-linux-x86-64.so.2"),
        ("etc/ssl/x", "etc/ssl/x"),
        ("usr/share/doc/x/copyright", None),
        ("usr/share/man", None),
        ("var/lib/x", None),
    ],
)
def test_places(path: str, placed: str | None) -> None:
    """Debian's folders become a store path's, and what no image needs is left out."""
    assert place(path, "amd64") == placed


def archive(*members: tuple[str, str, str]) -> tarfile.TarFile:
    """A package's files: name, type and contents or target."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, kind, text in members:
            info = tarfile.TarInfo(f"./{name}")
            info.type, info.mode, info.linkname = kind.encode(), 0o4755, text
            content = text.encode() if info.isfile() else b""
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    buffer.seek(0)
    return tarfile.open(fileobj=buffer)


FILE, LINK = tarfile.REGTYPE.decode(), tarfile.SYMTYPE.decode()


def test_unpacking(tmp_path: Path) -> None:
    """Files lose set-uid bits; links lead to what is here or in a dependency, or are left out."""
    out, other = tmp_path / "out", tmp_path / "other"
    (other / "lib").mkdir(parents=True)
    (other / "lib" / "libz.so.1").touch()
    layout = Layout(str(out), [str(other)], "amd64")
    tar = archive(
        ("usr/bin/app", FILE, "x"),
        ("usr/bin/second", LINK, "first"),
        ("usr/bin/first", LINK, "app"),
        ("usr/lib/x86_64-linux-gnu/libz.so", LINK, "libz.so.1"),
        ("usr/bin/dangling", LINK, "/etc/alternatives/none"),
        ("usr/share/doc/app/README", FILE, "x"),
    )
    for member in tar:
        layout.add(tar, member)
    layout.place_links()
    assert (out / "bin" / "app").stat().st_mode & 0o7777 == 0o755
    assert os.readlink(out / "bin" / "first") == "app"
    assert (out / "bin" / "second").resolve() == out / "bin" / "app"
    assert os.readlink(out / "lib" / "libz.so") == str(other / "lib" / "libz.so.1")
    assert not (out / "bin" / "dangling").is_symlink()
    assert not (out / "share").exists()


@pytest.mark.parametrize(
    ("line", "new"),
    [
        (b"#!/bin/sh -e", b"#!/s/bash -e"),
        (b"#! /usr/bin/env python3", b"#!/s/bash"),
        (b"#!/usr/bin/perl -w -T", b"#!/s/bash -w -T"),
    ],
)
def test_shebangs(line: bytes, new: bytes) -> None:
    """A script gets another interpreter and keeps its arguments; ``env`` goes."""
    assert new_shebang(line, "/s/bash") == new


def test_elf_files(tmp_path: Path) -> None:
    """Programs are told from other files, short and empty ones too."""
    # Dynamic, with an interpreter.
    assert {2, 3} <= {each.kind for each in elf_segments("/bin/sh") or []}
    for content in (b"", b"\x7fELF\x02", b"#!/bin/sh\n", b"\x7fELF\x01" + bytes(80)):
        (tmp_path / "file").write_bytes(content)
        assert elf_segments(str(tmp_path / "file")) is None


def elf_file(*segments: tuple[int, int, int, int]) -> bytes:
    """A program of which there is nothing but headers: kind, flags, address and size of each."""
    head = b"\x7fELF\x02".ljust(16, b"\0")
    head += struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, 0, 64, 0, 0, 64, 56, len(segments), 0, 0, 0)
    table = (
        struct.pack("<IIQQQQQQ", kind, flags, 0, start, start, size, size, 4096)
        for kind, flags, start, size in segments
    )
    return head + b"".join(table)


def test_the_dynamic_section_can_be_written_to(tmp_path: Path) -> None:
    """Every segment that holds a part of the dynamic section is writable, whatever patchelf made of
    it; the others stay as they are."""
    before = [(1, 6, 0x1000, 0x3000), (2, 6, 0x3F00, 0x200), (1, 4, 0x2000, 0x2000)]
    others = [(1, 4, 0x4100, 0x100), (1, 5, 0x1000, 0x2F00), (4, 4, 0x2000, 0x2000)]
    after = [*before[:2], (1, 6, 0x2000, 0x2000), *others]
    (tmp_path / "program").write_bytes(elf_file(*before, *others))
    make_dynamic_writable(str(tmp_path / "program"))
    assert (tmp_path / "program").read_bytes() == elf_file(*after)


def test_libraries_of_ones_own(tmp_path: Path) -> None:
    """A library is found a level below ``lib`` too, after those that are right there."""
    for name in ("a/lib/nix/libown.so", "a/lib/nix/libz.so", "b/lib/libz.so.1", "b/lib/libz.so"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    a, b = str(tmp_path / "a"), str(tmp_path / "b")
    assert library_folders([a, b, f"{a}/none"]) == {
        "libown.so": f"{a}/lib/nix",
        **dict.fromkeys(("libz.so", "libz.so.1"), f"{b}/lib"),
    }


def test_wrappers(tmp_path: Path) -> None:
    """A wrapped program is a script that sets variables and then becomes the program."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "app").write_text("the program")
    wrapping = {
        **{"programs": ["app", "missing"], "optional": True, "prepended": ["PATH"]},
        "environment": {"PATH": "@lib@/bin", "HERE": "@out@/share"},
    }
    wrap_programs(str(tmp_path), {"lib": "/s/lib", "bash": "/s/bash"}, wrapping)
    script = (tmp_path / "bin" / "app").read_text()
    assert script.startswith("#!/s/bash/bin/bash\n")
    assert "export PATH=/s/lib/bin${PATH:+:$PATH}\n" in script
    assert f"export HERE={tmp_path}/share\n" in script
    assert (tmp_path / "bin" / ".app-wrapped").read_text() == "the program"
    with pytest.raises(SystemExit):
        wrap_programs(str(tmp_path), {"lib": "/s", "bash": "/s"}, {**wrapping, "optional": False})


def test_values() -> None:
    """Names between @ stand for store paths."""
    assert substitute("@out@:@a@/x", "/o", {"a": "/a"}) == "/o:/a/x"
    assert export("A", "b", prepended=False) == "export A=b\n"
