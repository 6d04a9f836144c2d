"""git as an evaluation may run it: scripts, with a git in its place that says it was run."""

import os
import subprocess
from pathlib import Path

import pytest

from nixery.nix.git_for_evaluation import install
from nixery.nix.refusals import CONFINED


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
    install(str(tmp_path / "programs"), [])
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
    install(str(tmp_path / "programs"), ["/cache/nix", "/srv/set/"])
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
    install(str(tmp_path / "programs"), ["/cache/nix"])
    assert is_refused(run(tmp_path, *arguments))
    assert is_refused(run(tmp_path, "id", program="hg"))


def test_odd_folders(tmp_path: Path) -> None:
    """Folders are data in the scripts, whatever their names hold."""
    odd = "/a b/$(x)/'*'"
    install(str(tmp_path / "programs"), [odd])
    assert run(tmp_path, "-C", f"{odd}/1", "status").returncode == 0
    assert is_refused(run(tmp_path, "-C", "/a b/x/yyy/1", "status"))
