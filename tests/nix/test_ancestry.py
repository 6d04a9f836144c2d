"""Commits that branches and tags reach, with the real git."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred

from nixery.model.request_errors import CommitNotServed, UnknownTag
from nixery.model.service_errors import SourceUnavailable
from nixery.model.source import Channel
from nixery.model.tags import TagPolicy
from nixery.nix import ancestry
from tests.nix.clock import SteppedClock
from tests.nix.test_resolve import resolver, revision
from tests.repository import Repository

pytestmark = pytest.mark.program

reactor: Any = _reactor

MADE_UP = "0123456789abcdef" * 4
"""An id of no commit: cut to the length that is needed."""

BOTH_HASHES = pytest.mark.parametrize("repository", ["sha1", "sha256"], indirect=True)


@pytest.fixture
def repository(request: Any, tmp_path: Path) -> Repository:
    """Two commits on ``main``, of a server that hands out whatever is asked for by its id."""
    hashes = getattr(request, "param", "sha1")
    repository = Repository(tmp_path / "repository", hashes)
    for name in ("allowFilter", "allowAnySHA1InWant"):
        repository.git("config", f"uploadpack.{name}", "true")
    repository.commit("first")
    repository.commit("second")
    return repository


def pull_request(repository: Repository, ref: str = "refs/pull/1/head") -> str:
    """A commit that no branch or tag reaches."""
    commit = repository.git("commit-tree", "-m", "theirs", "-p", "main", "main^{tree}")
    repository.git("update-ref", ref, commit)
    return commit


def holds(folder: Path, commit: str) -> bool:
    """Whether any repository below a folder holds a commit."""
    offline = {**os.environ, "GIT_ALLOW_PROTOCOL": "none"}
    ask = ("cat-file", "-e", commit)
    return any(
        subprocess.run(["git", f"--git-dir={bare}", *ask], env=offline, check=False).returncode == 0
        for bare in (folder / "git").glob("*.git")
    )


@BOTH_HASHES
@pytest_twisted.ensureDeferred
async def test_commits_that_are_reached(repository: Repository, tmp_path: Path) -> None:
    """Commits below branches and tags are served, also where no branch is, where the branch's name
    can be no tag, and where HEAD is on none; an annotated tag's id is the commit that it is of."""
    tip, first = (repository.git("rev-parse", name) for name in ("main", "main~1"))
    tree = f"{first}^{{tree}}"
    tagged = repository.git("commit-tree", "-m", "tagged", tree)
    repository.git("tag", "-a", "-m", "x", "heavy", tagged)
    repository.git("tag", "-a", "-m", "x", "heavier", "heavy")
    below = repository.git("commit-tree", "-m", "below", tree)
    repository.git(
        "branch", "feature/x", repository.git("commit-tree", "-m", "y", "-p", below, tree)
    )
    repository.git("checkout", "-q", "--detach")
    detached = repository.commit("detached")
    last = repository.commit("last")
    ours = resolver(repository.url, tmp_path)
    for commit in (tip, first, tagged, below, detached, last):
        assert await revision(ours, commit) == commit
    for name in ("heavy", "heavier"):
        assert await revision(ours, repository.git("rev-parse", name)) == tagged


@pytest.mark.parametrize(
    ("repository", "filters"),
    [("sha1", "true"), ("sha1", "false"), ("sha256", "true")],
    indirect=["repository"],
)
@pytest_twisted.ensureDeferred
async def test_commits_of_others(repository: Repository, tmp_path: Path, filters: str) -> None:
    """A commit that only a pull request, another ref or a hidden one has is refused, and so is an
    id of something else; nothing of it is fetched for that."""
    repository.git("config", "uploadpack.allowFilter", filters)
    repository.git("config", "transfer.hideRefs", "refs/heads/hidden")
    theirs = pull_request(repository)
    hidden = pull_request(repository, "refs/heads/hidden")
    stash = pull_request(repository, "refs/stash")
    tree, blob = (repository.git("rev-parse", f"main{end}") for end in ("^{tree}", ":default.nix"))
    ours = resolver(repository.url, tmp_path, SteppedClock())
    for commit in (theirs, hidden, stash, tree, blob, MADE_UP[:40], MADE_UP):
        with pytest.raises(CommitNotServed, match=f"{commit} is not in the history of any"):
            await ours.resolve(commit)
    assert not any(holds(tmp_path, commit) for commit in (theirs, hidden, stash))
    for name in ("hidden", "refs/pull/1/head", "pull/1/head", "stash"):
        with pytest.raises(UnknownTag):
            await ours.resolve(name)


@pytest_twisted.ensureDeferred
async def test_where_others_may_be_named(repository: Repository, tmp_path: Path) -> None:
    """Where the operator says so, commits of pull requests are served."""
    theirs = pull_request(repository)
    assert await revision(resolver(repository.url, tmp_path, unreachable=True), theirs) == theirs


@pytest.mark.parametrize("spell", [str.upper, lambda commit: commit[:12], lambda c: c[:-1]])
@pytest_twisted.ensureDeferred
async def test_other_ways_to_write_a_commit(
    repository: Repository, tmp_path: Path, spell: Any
) -> None:
    """Commits are named by their full id in lower case alone."""
    commit = spell(repository.git("rev-parse", "main"))
    if commit.isdecimal():  # it has no case
        return
    with pytest.raises(UnknownTag):
        await resolver(repository.url, tmp_path).resolve(commit)


@pytest_twisted.ensureDeferred
async def test_histories_that_are_not_served(repository: Repository, tmp_path: Path) -> None:
    """The histories of branches that the operator's patterns leave out are not served, but that of
    ``latest`` always is."""
    first = repository.git("rev-parse", "main~1")
    repository.git("checkout", "-q", "-b", "other", first)
    repository.commit("below")
    repository.commit("other")
    tip, below = (repository.git("rev-parse", name) for name in ("other", "other~1"))
    repository.git("checkout", "-q", "main")
    some = TagPolicy(("[0-9a-f]*", "nixos-*"))
    for source in (repository.url, Channel("main", repository.url)):
        folder = tmp_path / type(source).__name__
        ours = resolver(source, folder, SteppedClock(), some)
        assert await revision(ours, first) == first
        for commit in (tip, below):
            with pytest.raises(CommitNotServed):
                await ours.resolve(commit)
    repository.git("branch", "nixos-1", "other")
    ours = resolver(repository.url, tmp_path / "again", policy=some)
    assert await revision(ours, below) == below


@pytest_twisted.ensureDeferred
async def test_pushes(repository: Repository, tmp_path: Path) -> None:
    """A commit is served as soon as it is pushed, though the last listing is young, and when its
    time has passed after a force-push no more; what is pushed after that is."""
    clock = SteppedClock()
    ours = resolver(repository.url, tmp_path, clock)
    first = repository.git("rev-parse", "main~1")
    assert await revision(ours, first) == first
    third = repository.commit("third")
    fourth = repository.commit("fourth")
    clock.advance(5)
    for commit in (third, fourth):
        assert await revision(ours, commit) == commit
    repository.git("reset", "-q", "--hard", first)
    fifth = repository.commit("fifth")
    repository.commit("sixth")
    clock.advance(61)
    for commit in (third, fourth):
        with pytest.raises(CommitNotServed):
            await ours.resolve(commit)
    for commit in (first, fifth):
        assert await revision(ours, commit) == commit


@pytest_twisted.ensureDeferred
async def test_a_remote_that_is_gone(repository: Repository, tmp_path: Path) -> None:
    """While a remote can't be read, commits that were named before are served, after a restart as
    well; of others, tips are, and of no other it is said that it is not reached."""
    clock = SteppedClock()
    ours = resolver(repository.url, tmp_path, clock)
    tip, first = (repository.git("rev-parse", name) for name in ("main", "main~1"))
    assert await revision(ours, first) == first
    repository.folder.rename(tmp_path / "away")
    for _ in range(2):
        clock.advance(31)
        for commit in (first, tip):
            assert await revision(ours, commit) == commit
        with pytest.raises(SourceUnavailable):
            await ours.resolve(MADE_UP[:40])
        await ours.stop()
        ours = resolver(repository.url, tmp_path, clock)


@pytest_twisted.ensureDeferred
async def test_tags_of_trees_and_files(repository: Repository, tmp_path: Path) -> None:
    """Tags that are of no commits keep no other commit from being found."""
    for name, of in (
        ("blob", "main:default.nix"),
        ("tree", "main^{tree}"),
        ("tree2", "main~1^{tree}"),
    ):
        repository.git("tag", name, of)
        repository.git("tag", "-a", "-m", "x", f"heavy{name}", of)
    first = repository.git("rev-parse", "main~1")
    assert await revision(resolver(repository.url, tmp_path), first) == first


@pytest_twisted.ensureDeferred
async def test_many_tips(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many tips there are, each of them is looked below."""
    monkeypatch.setattr(ancestry, "_AT_ONCE", 2)
    below = []
    for number in range(5):
        commits = ("commit-tree", "-m", str(number), "main^{tree}")
        below.append(repository.git(*commits))
        repository.git("branch", f"b{number}", repository.git(*commits, "-p", below[-1]))
    ours = resolver(repository.url, tmp_path, SteppedClock())
    for commit in below:
        assert await revision(ours, commit) == commit
    with pytest.raises(CommitNotServed):
        await ours.resolve(pull_request(repository))


@pytest_twisted.ensureDeferred
async def test_a_history_that_was_damaged(repository: Repository, tmp_path: Path) -> None:
    """A copy of the history that a power cut damaged is fetched anew."""
    first = repository.git("rev-parse", "main~1")
    repository.commit("third")
    assert await revision(resolver(repository.url, tmp_path), first) == first
    (bare,) = (tmp_path / "git").glob("*.git")
    for pack in bare.glob("objects/pack/*.pack"):
        pack.chmod(0o644)
        pack.write_bytes(bytes(pack.stat().st_size))
    (tmp_path / "revisions.json").unlink()
    assert await revision(resolver(repository.url, tmp_path), first) == first


@pytest_twisted.ensureDeferred
async def test_a_history_that_was_lost(repository: Repository, tmp_path: Path) -> None:
    """A copy of the history that is damaged while it is in use is fetched anew: no commit is said
    not to be reached for it."""
    first, second = (repository.git("rev-parse", name) for name in ("main~1", "main"))
    repository.commit("third")
    ours = resolver(repository.url, tmp_path, SteppedClock())
    assert await revision(ours, first) == first
    (bare,) = (tmp_path / "git").glob("*.git")
    shutil.rmtree(bare / "objects")
    assert await revision(ours, second) == second


@pytest_twisted.ensureDeferred
async def test_made_up_commits(repository: Repository, tmp_path: Path) -> None:
    """However many commits are made up at once, the remote is listed and fetched from a few times
    at most."""
    ours = resolver(repository.url, tmp_path, SteppedClock())
    asked: list[str] = []
    mirrors = ours._git.mirrors
    run = mirrors.run

    async def counted(argv: Any, limit: float) -> Any:
        asked.extend(word for word in argv if word in ("ls-remote", "fetch"))
        return await run(argv, limit)

    mirrors.run = counted  # type: ignore[method-assign]
    made_up = [f"{number:040x}" for number in range(30)]
    questions = [Deferred.fromCoroutine(ours.resolve(commit, "a")) for commit in made_up]
    for each in questions:
        with pytest.raises(CommitNotServed):
            await each
    assert asked.count("ls-remote") <= 2
    assert asked.count("fetch") == 1
