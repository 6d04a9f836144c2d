"""From tags to revisions, with the real git."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.task import Clock

from nixery.interfaces import IResolver
from nixery.model.errors import SourceUnavailable, UnknownTag
from nixery.model.source import NIXPKGS_URL, Channel, Folder, GitRepository, PinnedSource
from nixery.nix.process import Processes
from nixery.nix.resolve import FolderResolver, GitResolver

reactor: Any = _reactor

IDENTITY = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "n"), ("EMAIL", "e@example.com"))
}


class Repository:
    """A git repository in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.git("init", "-q", "-b", "main")
        self.commit("first")

    def git(self, *arguments: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(self.folder), *arguments],
            check=True,
            capture_output=True,
            text=True,
            env={**os.environ, **IDENTITY},
        )
        return done.stdout.strip()

    def commit(self, text: str) -> str:
        (self.folder / "default.nix").write_text(text)
        self.git("add", "-A")
        self.git("commit", "-q", "-m", text)
        return self.git("rev-parse", "HEAD")


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path)


def resolver(url: str, clock: Any = reactor) -> GitResolver:
    environ = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "GIT_ALLOW_PROTOCOL": "file"}
    return GitResolver(clock, Processes(reactor, environ), GitRepository(url), lifetime=30)


def fake_git(folder: Path) -> Processes:
    """A ``git`` that notes its arguments and knows the last of them."""
    git = folder / "git"
    git.write_text(
        f"""#!/bin/sh
printf '%s\\n' "$@" > '{folder}/arguments'
for name; do :; done
printf '%040d\\t%s\\n' 7 "$name"
"""
    )
    git.chmod(0o755)
    return Processes(reactor, {"PATH": f"{folder}:{os.environ['PATH']}"})


async def revision(resolver: IResolver, tag: str) -> str:
    return (await resolver.resolve(tag)).revision


@pytest_twisted.ensureDeferred
async def test_every_kind_of_name(repository: Repository) -> None:
    """``latest`` is HEAD; branches, tags and annotated tags are the commits they stand on; a full
    commit is itself."""
    first = repository.git("rev-parse", "HEAD")
    repository.git("tag", "light")
    repository.git("tag", "-a", "heavy", "-m", "annotated")
    second = repository.commit("second")
    repository.git("branch", "other", first)
    ours = resolver(f"file://{repository.folder}")
    assert await revision(ours, "latest") == second
    assert await revision(ours, "main") == second
    for tag in ("other", "light", "heavy", first):
        assert await revision(ours, tag) == first


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("tag", ["nosuch", "a..b", "heads", "main_", "refs", "0" * 39])
async def test_unknown_names(repository: Repository, tag: str) -> None:
    """A name that stands for nothing is said to be unknown."""
    with pytest.raises(UnknownTag):
        await revision(resolver(f"file://{repository.folder}"), tag)


@pytest_twisted.ensureDeferred
async def test_unknown_names_are_asked_for_again(repository: Repository) -> None:
    """A tag that was unknown is known as soon as it is pushed."""
    ours = resolver(f"file://{repository.folder}", Clock())
    with pytest.raises(UnknownTag):
        await revision(ours, "new")
    repository.git("branch", "new")
    assert await revision(ours, "new") == repository.git("rev-parse", "HEAD")


@pytest_twisted.ensureDeferred
async def test_full_commits_start_nothing() -> None:
    """A full commit is a revision already: no remote is asked."""
    for commit in ("0" * 40, "a1" * 32):
        assert await revision(resolver("file:///no/such/repository"), commit) == commit


@pytest_twisted.ensureDeferred
async def test_names_are_arguments_and_no_options(tmp_path: Path) -> None:
    """git gets a URL and the names asked for after ``--``, whatever they look like."""
    ours = GitResolver(reactor, fake_git(tmp_path), GitRepository("--upload-pack=true"), 30)
    await revision(ours, "_x")
    arguments = (tmp_path / "arguments").read_text().splitlines()
    assert arguments[arguments.index("--") + 1] == "--upload-pack=true"
    assert all(name.startswith("refs/") for name in arguments[arguments.index("--") + 2 :])


@pytest.mark.parametrize(
    ("tag", "asked"), [("latest", "refs/heads/nixos-x"), ("nixos-y", "refs/heads/nixos-y")]
)
@pytest_twisted.ensureDeferred
async def test_channels(tmp_path: Path, tag: str, asked: str) -> None:
    """A channel's ``latest`` is the branch of its name in nixpkgs; tags name other channels."""
    ours = GitResolver(reactor, fake_git(tmp_path), Channel("nixos-x"), 30)
    assert await ours.resolve(tag) == PinnedSource(Channel("nixos-x"), "7".zfill(40))
    arguments = (tmp_path / "arguments").read_text().splitlines()
    assert arguments[-1] == asked
    assert NIXPKGS_URL in arguments


@pytest_twisted.ensureDeferred
async def test_answers_are_kept_for_a_while(repository: Repository) -> None:
    """A push is seen when the kept answer has passed its time, and not before."""
    clock = Clock()
    ours = resolver(f"file://{repository.folder}", clock)
    first = await revision(ours, "latest")
    second = repository.commit("second")
    clock.advance(29)
    assert await revision(ours, "latest") == first
    clock.advance(2)
    assert await revision(ours, "latest") == second


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    "url",
    [
        "file:///no/such/repository",
        "--upload-pack=touch /tmp/x",
        "ext::sh -c true",
        "https://u:secret@h/",
    ],
)
async def test_unreachable_sources(url: str) -> None:
    """A source that can't be read is said to be so; a URL is never an option, a command, or told
    with its credentials."""
    with pytest.raises(SourceUnavailable) as caught:
        await revision(resolver(url), "latest")
    assert "secret" not in str(caught.value)
    assert not Path("/tmp/x").exists()


@pytest_twisted.ensureDeferred
async def test_folders(tmp_path: Path) -> None:
    """A folder's revision is its contents: it changes with them, and only then."""
    (tmp_path / "default.nix").write_text("one")
    ours = FolderResolver(reactor, Folder(str(tmp_path)))
    first = await revision(ours, "latest")
    assert await revision(ours, "latest") == first
    (tmp_path / "default.nix").write_text("two")
    assert await revision(ours, "latest") != first
    with pytest.raises(UnknownTag):
        await revision(ours, "main")


@pytest_twisted.ensureDeferred
async def test_folders_that_vanished(tmp_path: Path) -> None:
    """A folder that is no more is a source that can't be read."""
    with pytest.raises(SourceUnavailable):
        await revision(FolderResolver(reactor, Folder(str(tmp_path / "none"))), "latest")
