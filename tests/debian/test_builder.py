"""What the builder does to the files of a Debian package."""

import io
import os
import tarfile
from pathlib import Path

import pytest
from layout import Layout, place
from patch import elf_segments, library_folders, new_shebang
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
    assert {2, 3} <= (elf_segments("/bin/sh") or set())  # dynamic, with an interpreter
    for content in (b"", b"\x7fELF\x02", b"#!/bin/sh\n", b"\x7fELF\x01" + bytes(80)):
        (tmp_path / "file").write_bytes(content)
        assert elf_segments(str(tmp_path / "file")) is None


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
