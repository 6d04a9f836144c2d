"""Fingerprints of folders."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from nixery.nix.fingerprint import Fingerprints


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    top = tmp_path / "set"
    (top / "sub").mkdir(parents=True)
    (top / "default.nix").write_text("one")
    (top / "sub" / "x").write_text("two")
    (top / "link").symlink_to("sub/x")
    return top


def take(folder: Path) -> str:
    return Fingerprints().take(str(folder))


def rewrite_in_place(top: Path) -> None:
    """Change a file and put its time back: its size is the same too."""
    facts = (top / "sub" / "x").stat()
    (top / "sub" / "x").write_text("owt")
    os.utime(top / "sub" / "x", ns=(facts.st_atime_ns, facts.st_mtime_ns))


def relink(top: Path) -> None:
    (top / "link").unlink()
    (top / "link").symlink_to("default.nix")


CHANGES: dict[str, Callable[[Path], object]] = {
    "content": rewrite_in_place,
    "name": lambda top: (top / "sub" / "x").rename(top / "sub" / "y"),
    "place": lambda top: (top / "sub" / "x").rename(top / "x"),
    "executable": lambda top: (top / "sub" / "x").chmod(0o755),
    "target": relink,
    "addition": lambda top: (top / "new").write_text(""),
    "empty folder": lambda top: (top / "new").mkdir(),
    "removal": lambda top: (top / "link").unlink(),
}


@pytest.mark.parametrize("change", list(CHANGES))
def test_changes_are_seen(folder: Path, change: str) -> None:
    """Every change that Nix could see changes the fingerprint, for a new and a warm one."""
    warm = Fingerprints()
    before = warm.take(str(folder))
    CHANGES[change](folder)
    assert take(folder) != before
    assert warm.take(str(folder)) == take(folder)


def test_copies_are_the_same(folder: Path, tmp_path: Path) -> None:
    """The same contents elsewhere, with other times and another history, are the same."""
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy, symlinks=True, copy_function=shutil.copyfile)
    (copy / ".git").mkdir()
    (copy / ".git" / "HEAD").write_text("x")
    assert take(copy) == take(folder)


def test_untouched_files_are_not_read_again(folder: Path) -> None:
    """A second fingerprint looks at files without reading them."""
    ours = Fingerprints()
    before = ours.take(str(folder))
    accessed = (folder / "default.nix").stat().st_ctime_ns
    os.utime(folder / "sub", None)
    assert ours.take(str(folder)) == before
    assert (folder / "default.nix").stat().st_ctime_ns == accessed
