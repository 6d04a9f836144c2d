"""The part of the machine that an evaluation sees, with a git that says when it was run."""

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nixery.nix.isolation import install_wrappers, mounts, within
from nixery.nix.messages import CONFINED

NAMES = st.sampled_from(["a", "b", "ab"])
PATHS = st.lists(NAMES, min_size=1, max_size=4).map(lambda names: "/" + "/".join(names))
SOME = st.lists(PATHS, max_size=5)


def is_visible(path: str, steps: list[str]) -> bool:
    """Whether a path is seen after the mounts were made one after the other."""
    covering = [step for step in steps if within(path, [step[1:]])]
    return not covering or covering[-1][0] == "+"


@given(hidden=SOME, shown=SOME, path=PATHS)
def test_the_nearest_counts(hidden: list[str], shown: list[str], path: str) -> None:
    """A file is seen or not as the nearest folder is that was named; shown wins over hidden."""
    near = [each for each in (*hidden, *shown) if within(path, [each])]
    nearest = max(near, key=len, default=None)
    expected = nearest is None or nearest in shown
    assert is_visible(path, mounts(hidden, shown)) == expected


@given(hidden=SOME, shown=SOME)
def test_no_mount_is_idle(hidden: list[str], shown: list[str]) -> None:
    """Each mount changes what is seen at its place, and none covers an earlier one within it."""
    steps = mounts(hidden, shown)
    for number, step in enumerate(steps):
        before = steps[:number]
        assert is_visible(step[1:], before) == (step[0] == "-")
        assert not any(within(earlier[1:], [step[1:]]) for earlier in before)


def test_other_spellings() -> None:
    """A path is the same however it is written."""
    assert mounts(["/home//a/"], ["/home/a/./b/../c"]) == ["-/home/a", "+/home/a/c"]
    assert mounts([], ["/home"]) == []


def run(folder: Path, *arguments: str, program: str = "git") -> subprocess.CompletedProcess[str]:
    real = folder / "real"
    real.mkdir(exist_ok=True)
    for name in ("git", "hg"):
        (real / name).write_text('#!/bin/sh\necho ran "$@"\n')
        (real / name).chmod(0o755)
    environ = {"PATH": f"{folder / 'programs'}:{real}:{os.defpath}"}
    return subprocess.run(
        [program, *arguments], env=environ, capture_output=True, text=True, check=False
    )


def is_refused(done: subprocess.CompletedProcess[str]) -> bool:
    return done.returncode != 0 and CONFINED in done.stderr and "ran" not in done.stdout


@pytest.mark.parametrize("program", ["git", "hg"])
def test_nothing_allowed(tmp_path: Path, program: str) -> None:
    """Where nothing may be fetched, neither program does anything."""
    install_wrappers(str(tmp_path / "programs"), [])
    for arguments in (["ls-remote", "https://example.com/x"], ["-C", "/x", "status"], []):
        assert is_refused(run(tmp_path, *arguments, program=program))


# What Nix 2.8 to 2.34 ask git for.
@pytest.mark.parametrize(
    "arguments",
    [
        ["ls-remote", "--symref", "https://example.com/x"],
        ["-c", "init.defaultBranch=x", "init", "--bare", "/cache/nix/gitv3/1"],
        ["-C", "/cache/nix/gitv3/1", "--git-dir", ".", "fetch", "--", "https://example.com/x"],
        ["-C", "/cache/nix/gitv3/1", "cat-file", "-e", "1"],
        ["-C", "/srv/set", "rev-parse", "HEAD"],
        ["-C", "/cache/nix/gitv3/1", "fetch", "--", "file:///srv/set", "main"],
    ],
)
def test_what_is_allowed(tmp_path: Path, arguments: list[str]) -> None:
    """git asks other machines, and works on the repositories of some folders."""
    install_wrappers(str(tmp_path / "programs"), ["/cache/nix", "/srv/set/"])
    assert run(tmp_path, *arguments).stdout.split() == ["ran", *arguments]


@pytest.mark.parametrize(
    "arguments",
    [
        ["-C", "/srv/other", "status"],
        ["-C", "/cache/nix/../other", "status"],
        ["-C", "/cache/nixes", "status"],
        ["-C", "relative", "status"],
        ["ls-remote", "file:///srv/other"],
        ["ls-remote", "/srv/other"],
        ["-C", "/cache/nix/1", "fetch", "--", "file:///srv/other", "main"],
        ["-C", "/cache/nix/1", "fetch", "--", "file:///cache/nix/../../srv/other", "main"],
        ["status"],
        ["--git-dir", "/srv/other", "status"],
        ["-c", "x=y", "clone", "/srv/other", "/cache/nix/1"],
        [],
    ],
)
def test_what_is_refused(tmp_path: Path, arguments: list[str]) -> None:
    """git is run on no other folder, however it is named."""
    install_wrappers(str(tmp_path / "programs"), ["/cache/nix"])
    assert is_refused(run(tmp_path, *arguments))
    assert is_refused(run(tmp_path, "id", program="hg"))


def test_odd_folders(tmp_path: Path) -> None:
    """Folders are data in the scripts, whatever their names hold."""
    odd = "/a b/$(x)/'*'"
    install_wrappers(str(tmp_path / "programs"), [odd])
    assert run(tmp_path, "-C", f"{odd}/1", "status").returncode == 0
    assert is_refused(run(tmp_path, "-C", "/a b/x/yyy/1", "status"))
