"""Where two outputs differ first."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from nixery.nix.first_difference import first_difference

Change = Callable[[Path], object]


def make(folder: Path) -> Path:
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "run").write_text("one\ntwo\n")
    (folder / "bin" / "run").chmod(0o755)
    (folder / "bin" / "walk").symlink_to("run")
    (folder / "share").write_text("text")
    return folder


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda f: None, ""),
        (lambda f: os.utime(f / "share", (1, 1)), ""),
        (lambda f: (f / "share").unlink(), "share is missing now"),
        (lambda f: (f / "bin" / "a").touch(), "bin/a is new"),
        (
            lambda f: (f / "bin" / "run").write_text("one\nthree\n"),
            "bin/run differs from byte 5 on: 'wo', and now 'hree'",
        ),
        (
            lambda f: (f / "bin" / "run").write_text("one\n"),
            "bin/run differs from byte 4 on: 'two', and now nothing",
        ),
        (
            lambda f: (f / "share").write_bytes(b"\x1b[2Jx"),
            "share differs from byte 0 on: 'text', and now 'x'",
        ),
        (
            lambda f: (f / "bin" / "run").chmod(0o644),
            "bin/run was a program, and is now a file",
        ),
        (
            lambda f: ((f / "bin" / "walk").unlink(), (f / "bin" / "walk").symlink_to("w")),
            "bin/walk led to 'run', and leads now to 'w'",
        ),
    ],
)
def test_the_first_difference(change: Change, said: str, tmp_path: Path) -> None:
    """What differs first is named, with what stood there; what Nix does not know of is none."""
    one, other = make(tmp_path / "one"), make(tmp_path / "other")
    change(other)
    found = first_difference(str(one), str(other))
    assert found == said


def test_deep_folders(tmp_path: Path) -> None:
    """Folders may lie in each other as deep as paths are long."""
    folders = [f"{tmp_path}{'/d' * depth}" for depth in range(1, 1001)]
    for folder in folders:
        os.mkdir(folder)
    try:
        assert first_difference(folders[0], folders[0]) == ""
    finally:  # pytest's own way to remove them has no room for as many
        for folder in reversed(folders):
            os.rmdir(folder)


def test_long_files(tmp_path: Path) -> None:
    """A difference behind the first megabytes is found at its place."""
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_bytes(b"\0" * 3_000_000 + b"a")
    other.write_bytes(b"\0" * 3_000_000 + b"b")
    said = first_difference(str(one), str(other))
    assert said == "the output differs from byte 3000000 on: 'a', and now 'b'"
