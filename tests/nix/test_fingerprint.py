"""Fingerprints of folders."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from nixery.nix.fingerprint import Fingerprints, sha256_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    top = tmp_path / "set"
    (top / "sub").mkdir(parents=True)
    (top / "default.nix").write_text("one")
    (top / "sub" / "x").write_text("two")
    (top / "link").symlink_to("sub/x")
    return top


def take(folder: Path) -> str:
    return Fingerprints(str(folder)).take()


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
    warm = Fingerprints(str(folder))
    before, look = warm.take(), warm.look()
    assert warm.look() == look
    CHANGES[change](folder)
    assert take(folder) != before
    assert warm.take() == take(folder)
    assert warm.look() != look


def test_copies_are_the_same(folder: Path, tmp_path: Path) -> None:
    """The same contents elsewhere, with other times and another history, are the same."""
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy, symlinks=True, copy_function=shutil.copyfile)
    (copy / ".git").mkdir()
    (copy / ".git" / "HEAD").write_text("x")
    assert take(copy) == take(folder)


def test_untouched_files_are_not_read_again(folder: Path) -> None:
    """A second fingerprint reads the files that were touched, and no others."""
    read: list[str] = []

    def reading(path: str) -> str:
        read.append(os.path.basename(path))
        return sha256_of(path)

    ours = Fingerprints(str(folder), reading)
    before = ours.take()
    assert sorted(read) == ["default.nix", "x"]
    read.clear()
    assert ours.take() == before
    assert read == []
    os.utime(folder / "sub" / "x", ns=(1, 1))
    assert ours.take() == before
    assert read == ["x"]


def test_a_link_to_the_set_is_followed(folder: Path, tmp_path: Path) -> None:
    """A set that is named by a link is fingerprinted by what is there, be it a folder or a file."""
    by_link, file = tmp_path / "by-link", tmp_path / "file.nix"
    by_link.symlink_to(folder)
    assert take(by_link) == take(folder)
    file.symlink_to(folder / "default.nix")
    before = take(file)
    (folder / "default.nix").write_text("three")
    assert take(file) != before


def test_names_and_contents_do_not_blur(tmp_path: Path) -> None:
    """No way of moving bytes between names and contents gives the same fingerprint."""
    taken = set()
    contents: list[dict[str, str]] = [{"ab": "c"}, {"a": "bc"}, {"a": "b", "c": ""}, {"abc": ""}]
    for number, files in enumerate(contents):
        top = tmp_path / str(number)
        top.mkdir()
        for name, text in files.items():
            (top / name).write_text(text)
        taken.add(take(top))
    assert len(taken) == len(contents)


def test_what_vanished(tmp_path: Path) -> None:
    """A folder that is not there is an error of the system, not an empty set."""
    with pytest.raises(FileNotFoundError):
        take(tmp_path / "none")


def test_deep_folders(folder: Path) -> None:
    """Folders may be as deep as the system takes them."""
    before = take(folder)
    subprocess.run(["mkdir", "-p", f"{folder}/{'/'.join('d' * 1500)}"], check=True)
    try:
        assert take(folder) != before
    finally:
        subprocess.run(["rm", "-rf", f"{folder}/d"], check=True)  # pytest can't
    assert take(folder) == before
