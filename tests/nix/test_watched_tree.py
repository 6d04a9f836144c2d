"""Folders that are known to be unchanged without a walk."""

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from nixery.nix import watched_tree
from nixery.nix.fingerprint import Fingerprints
from nixery.nix.watched_tree import AGE, WatchedTree

NAMES = st.sampled_from(["a", "b", "a/a", "a/b", "b/a", "a/a/a", "new", "a/new/deep"])
Edit = Callable[[Path, Path], object]


def _append(one: Path, _: Path) -> None:
    with one.open("a") as file:
        file.write("more")


def _mkdir(one: Path, _: Path) -> None:
    one.mkdir(parents=True)


def _remove(one: Path, _: Path) -> None:
    shutil.rmtree(one) if one.is_dir() and not one.is_symlink() else one.unlink()


def _put_back(one: Path, _: Path) -> None:
    """Write, and set the time to what it was."""
    before = one.stat()
    one.write_bytes(one.read_bytes()[::-1])
    os.utime(one, ns=(before.st_atime_ns, before.st_mtime_ns))


EDITS: list[Edit] = [
    lambda one, _: one.write_text("text"),
    _append,
    lambda one, _: os.truncate(one, 1),
    lambda one, _: one.chmod(0o755 if one.stat().st_mode & 0o100 == 0 else 0o644),
    lambda one, other: one.rename(other),
    lambda one, other: one.replace(other),
    lambda one, other: one.symlink_to(other),
    lambda one, other: os.link(one, other),
    lambda one, other: shutil.copy(one, other),
    _mkdir,
    _remove,
    _put_back,
]


class Walked:
    """A folder, its fingerprint at a walk, and what is told of it since."""

    def __init__(self, top: Path, before: "Walked | None" = None) -> None:
        self.clock = Clock()
        old = None if before is None else before.tree
        self.tree: WatchedTree = WatchedTree(str(top), self.clock.seconds, old)
        self.taken = Fingerprints(str(top)).take(self.tree.see)


@given(st.lists(st.tuples(st.sampled_from(EDITS), NAMES, NAMES), max_size=12))
def test_any_edit(
    tmp_path_factory: pytest.TempPathFactory, edits: list[tuple[Edit, str, str]]
) -> None:
    """After any edit, either a walk is needed, or there is nothing new to be found by one."""
    top = tmp_path_factory.mktemp("tree")
    (top / "a" / "a").mkdir(parents=True)
    (top / "a" / "b").write_text("two")
    (top / "b").mkdir()
    walked = Walked(top)
    for edit, one, other in edits:
        with suppress(OSError, ValueError, shutil.Error):
            edit(top / one, top / other)
        if walked.tree.stands():
            assert Fingerprints(str(top)).take() == walked.taken
        else:
            walked = Walked(top)
    names = [path for path in top.rglob("*") if path.is_file() and not path.is_symlink()]
    assert walked.tree.stands() or any(path.stat().st_nlink > 1 for path in names)


@pytest.fixture
def top(tmp_path: Path) -> Path:
    (tmp_path / "set" / "sub").mkdir(parents=True)
    (tmp_path / "set" / "sub" / "x").write_text("one")
    return tmp_path / "set"


def test_untouched(top: Path) -> None:
    """What is only read stands, for a while."""
    walked = Walked(top)
    (top / "sub" / "x").read_text()
    assert walked.tree.stands()
    walked.clock.advance(AGE)
    assert not walked.tree.stands()


def test_new_folders(top: Path) -> None:
    """What comes to be in a folder while it is walked is not missed."""

    def see(path: str, facts: os.stat_result) -> None:
        tree.see(path, facts)
        if path == str(top / "sub"):
            (top / "sub" / "new").mkdir()
            (top / "sub" / "new" / "x").write_text("new")

    tree = WatchedTree(str(top), Clock().seconds)
    Fingerprints(str(top)).take(see)
    assert not tree.stands()


def test_links_that_lead_there(top: Path) -> None:
    """A link that leads to another folder from now on is an edit, and so is a folder that is moved
    away with the one that it lies in."""
    link = top.parent / "link"
    link.symlink_to("set")
    shutil.copytree(top, top.parent / "other")
    walked = Walked(link)
    assert walked.tree.stands()
    link.unlink()
    link.symlink_to("other")
    assert not walked.tree.stands()
    walked = Walked(top)
    top.parent.rename(f"{top.parent}-before")
    assert not walked.tree.stands()
    os.rename(f"{top.parent}-before", top.parent)


@pytest.mark.parametrize("replaced", [False, True])
def test_one_file(tmp_path: Path, replaced: bool) -> None:
    """A source that is one file is watched as well, whether it is written or replaced."""
    file = tmp_path / "overlays.nix"
    file.write_text("[ ]")
    walked = Walked(file)
    (tmp_path / "beside").write_text("[ 1 ]")
    assert walked.tree.stands()
    if replaced:
        (tmp_path / "beside").replace(file)
    else:
        file.write_text("[ 1 ]")
    assert not walked.tree.stands()


def test_second_names(top: Path) -> None:
    """A file that may be written by another name is not watched, nor is the rest."""
    os.link(top / "sub" / "x", top.parent / "other")
    assert not Walked(top).tree.stands()


def test_more_than_may_be_watched(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders in too great a number are walked each time, and are not watched for nothing again
    and again."""
    monkeypatch.setattr(watched_tree, "_MOST", 1)
    walked = Walked(top)
    assert not walked.tree.stands()
    monkeypatch.setattr(watched_tree, "_MOST", 2)
    tree = walked.tree
    for seconds in (0, 300, 300):
        assert not tree.stands()
        walked.clock.advance(seconds)
        tree = WatchedTree(str(top), walked.clock.seconds, tree)
        Fingerprints(str(top)).take(tree.see)
    assert tree.stands()


def test_names_that_matter(top: Path) -> None:
    """In a folder of which only some names matter, nothing else is an edit."""
    (top / ".git").mkdir()
    tree = WatchedTree(str(top), Clock().seconds)
    tree.see_some(str(top / ".git"), ["HEAD"])
    tree.see_some(str(top / ".git" / "none"), ["HEAD"])
    Fingerprints(str(top)).take(tree.see)
    (top / ".git" / "index.lock").write_text("x")
    assert tree.stands()
    (top / ".git" / "HEAD.lock").write_text("x")
    (top / ".git" / "HEAD.lock").rename(top / ".git" / "HEAD")
    assert not tree.stands()


def test_names_that_lead_away(top: Path) -> None:
    """Where a name that matters is a link, what it leads to is not watched: nothing stands."""
    (top / ".git").mkdir()
    (top / ".git" / "HEAD").symlink_to("/nonexistent")
    (top / "link").symlink_to("sub")
    for name in (".git", "link"):
        tree = WatchedTree(str(top), Clock().seconds)
        with capturedLogs() as logs:
            tree.see_some(str(top / name), ["HEAD"])
            tree.see_some(str(top / name), ["HEAD"])
        assert not tree.stands()
        assert ["link" in each["reason"] for each in logs] == [True]


def test_where_the_kernel_does_not_know(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of a network's file system is walked each time."""
    monkeypatch.setattr(watched_tree, "is_told", lambda path: False)
    assert not Walked(top).tree.stands()


def test_nothing_there(tmp_path: Path) -> None:
    """What is not there does not stand."""
    assert not WatchedTree(str(tmp_path / "none"), Clock().seconds).stands()
