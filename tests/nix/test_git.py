"""The files of commits, with the real git."""

import os
import shutil
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred

from nixery.nix.git import CommitUnknown, Git
from nixery.nix.mirrors import GitFailed, GitStopped
from nixery.nix.process import Processes
from tests.repository import Repository

pytestmark = pytest.mark.program

reactor: Any = _reactor


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "repository")


def make_git(folder: Path, **environ: str) -> Git:
    environ = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", **environ}
    git = Git(reactor, Processes(reactor, reactor, environ), str(folder / "git"))
    git.start()
    return git


@pytest.fixture
def git(tmp_path: Path) -> Git:
    return make_git(tmp_path)


async def contents(git: Git, url: str, commit: str) -> str:
    folder = await git.checkout(url, commit)
    assert os.path.basename(folder) == "source"
    text = (Path(folder) / "default.nix").read_text()
    assert not (Path(folder) / ".git").exists()
    await git.discard(folder)
    return text


@pytest_twisted.ensureDeferred
async def test_dates(git: Git, repository: Repository, tmp_path: Path) -> None:
    """A commit has the date of its committer's clock, and after a checkout nobody is asked."""
    first, second = repository.commit("one", 1_700_000_000), repository.commit("two", 1_800_000_000)
    assert await git.date(repository.url, first) == 1_700_000_000
    await contents(git, repository.url, second)
    repository.folder.rename(tmp_path / "away")
    assert await git.date(repository.url, second) == 1_800_000_000
    with pytest.raises(GitFailed):
        await git.date(repository.url, "0" * 40)


@pytest_twisted.ensureDeferred
async def test_dates_of_unknown_commits(git: Git, repository: Repository) -> None:
    """A commit that the remote does not have has no date."""
    repository.commit("one")
    with pytest.raises(GitFailed, match="no commit 0000"):
        await git.date(repository.url, "0" * 40)


@pytest_twisted.ensureDeferred
async def test_commits_without_a_date(git: Git, repository: Repository) -> None:
    """A commit that some other program has written may not say when."""
    tree = repository.git("rev-parse", f"{repository.commit('one')}^{{tree}}")
    text = f"tree {tree}\nauthor n <e@example.com>\ncommitter n <e@example.com>\n\nx\n"
    write = ("hash-object", "-t", "commit", "-w", "--literally", "--stdin")
    commit = repository.git(*write, input_text=text)
    repository.git("branch", "undated", commit)
    assert await git.date(repository.url, commit) is None


@pytest_twisted.ensureDeferred
async def test_origins(git: Git, repository: Repository) -> None:
    """A work tree may know where it was cloned from."""
    assert await git.origin(str(repository.folder)) == ""
    repository.git("remote", "add", "origin", "https://user:secret@example.com/set.git")
    assert await git.origin(str(repository.folder)) == "https://user:secret@example.com/set.git"


@pytest_twisted.ensureDeferred
async def test_any_commit(git: Git, repository: Repository, tmp_path: Path) -> None:
    """A commit's files are had whether it is a branch's tip, below one, or on none any more."""
    commits = [repository.commit(text) for text in ("one", "two", "three")]
    repository.git("reset", "-q", "--hard", commits[1])
    for commit, text in zip(commits, ("one", "two", "three"), strict=True):
        assert await contents(git, repository.url, commit) == text
    assert os.listdir(tmp_path / "git" / "tmp") == []


@pytest_twisted.ensureDeferred
async def test_servers_of_an_older_protocol(repository: Repository, tmp_path: Path) -> None:
    """A server that gives out tips alone is asked for all of its branches and tags."""
    git = make_git(
        tmp_path,
        GIT_CONFIG_COUNT="1",
        GIT_CONFIG_KEY_0="protocol.version",
        GIT_CONFIG_VALUE_0="0",
    )
    first, second = repository.commit("one"), repository.commit("two")
    assert await contents(git, repository.url, second) == "two"
    assert await contents(git, repository.url, first) == "one"
    with pytest.raises(CommitUnknown):
        await git.checkout(repository.url, "0" * 40)


@pytest_twisted.ensureDeferred
async def test_unknown_commits(git: Git, repository: Repository, tmp_path: Path) -> None:
    """A commit that the remote has not is told from a remote that can't be read; neither leaves
    anything; an object that is no commit is none."""
    repository.commit("one")
    tree, blob = (repository.git("rev-parse", f"HEAD{end}") for end in ("^{tree}", ":default.nix"))
    for unknown in ("0" * 40, tree, blob):
        with pytest.raises(CommitUnknown):
            await git.checkout(repository.url, unknown)
    with pytest.raises(GitFailed):
        await git.checkout(f"file://{tmp_path}/none", "0" * 40)
    assert not (tmp_path / "git" / "tmp").exists()


@pytest_twisted.ensureDeferred
async def test_a_commit_is_fetched_once(git: Git, repository: Repository, tmp_path: Path) -> None:
    """What was fetched is there when the remote is gone, also for two who ask at once."""
    commit = repository.commit("one")
    both = [Deferred.fromCoroutine(contents(git, repository.url, commit)) for _ in range(2)]
    assert [await each for each in both] == ["one", "one"]
    repository.folder.rename(tmp_path / "away")
    assert await contents(git, repository.url, commit) == "one"


@pytest_twisted.ensureDeferred
async def test_commits_are_forgotten(
    git: Git, repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of many commits the latest are kept, and the one that was fetched last."""
    monkeypatch.setattr("nixery.nix.git._COMMITS_KEPT", 2)
    commits = [repository.commit(str(number), 10**9 + number) for number in range(5)]
    for commit in [*commits[1:], commits[0]]:
        await contents(git, repository.url, commit)
    (bare,) = (path for path in (tmp_path / "git").iterdir() if path.name != "tmp")
    kept = {path.name for path in (bare / "refs" / "nixery").iterdir()}
    assert kept == {commits[0], commits[3], commits[4]}


@pytest_twisted.ensureDeferred
async def test_what_was_left_unfinished(repository: Repository, tmp_path: Path) -> None:
    """A new start drops what an earlier process left, and nothing else."""
    left = tmp_path / "git" / "tmp" / ("0" * 32) / "source"
    foreign = tmp_path / "git" / "tmp" / "website"
    for path in (left, foreign):
        path.mkdir(parents=True)
    commit = repository.commit("one")
    assert await contents(make_git(tmp_path), repository.url, commit) == "one"
    assert not left.exists()
    assert foreign.exists()


@pytest_twisted.ensureDeferred
async def test_what_git_left_when_it_was_killed(
    git: Git, repository: Repository, tmp_path: Path
) -> None:
    """Locks and temporary files of a git that was killed keep nobody from fetching, and are gone
    afterwards; so is a repository that was not whole yet."""
    url, commit = repository.url, repository.commit("one")
    assert await contents(git, url, commit) == "one"
    (bare,) = (path for path in (tmp_path / "git").iterdir() if path.name != "tmp")
    lock = bare / "refs" / "nixery" / f"{repository.commit('two')}.lock"
    left = [bare / "shallow.lock", lock, bare / "objects" / "pack" / "tmp_pack_x"]
    for path in left:
        path.touch()
    assert await contents(git, url, lock.stem) == "two"
    assert not any(path.exists() for path in left)
    bare.rename(f"{bare}.new")
    (tmp_path / "git" / f"{bare.name}.new" / "HEAD").unlink()
    assert await contents(git, url, lock.stem) == "two"
    assert {path.name for path in (tmp_path / "git").iterdir()} == {bare.name, "tmp"}


def _zeros(path: Path) -> None:
    path.chmod(0o644)
    path.write_bytes(bytes(path.stat().st_size))


@pytest.mark.parametrize("damage", [_zeros, Path.unlink])
@pytest.mark.parametrize(
    "files", ["HEAD", "config", "shallow", "refs/nixery/*", "objects/pack/*.pack"]
)
@pytest_twisted.ensureDeferred
async def test_what_a_power_cut_damaged(
    repository: Repository, tmp_path: Path, files: str, damage: Callable[[Path], None]
) -> None:
    """Whatever is damaged of what was fetched, it is fetched anew, and nothing else is left."""
    first, second = repository.commit("one"), repository.commit("two")
    assert await contents(make_git(tmp_path), repository.url, second) == "two"
    (bare,) = (path for path in (tmp_path / "git").iterdir() if path.name != "tmp")
    for path in list(bare.glob(files)):
        damage(path)
    git = make_git(tmp_path)
    assert await contents(git, repository.url, second) == "two"
    assert await contents(git, repository.url, first) == "one"
    assert {path.name for path in (tmp_path / "git").iterdir()} == {bare.name, "tmp"}


@pytest_twisted.ensureDeferred
async def test_a_remote_that_is_away(git: Git, repository: Repository, tmp_path: Path) -> None:
    """What was fetched is not lost by asking a remote that can't be reached for more; what a
    process left that was killed meanwhile is removed."""
    first, second = repository.commit("one"), repository.commit("two")
    assert await contents(git, repository.url, first) == "one"
    repository.folder.rename(tmp_path / "away")
    with pytest.raises(GitFailed):
        await git.checkout(repository.url, second)
    left, foreign = tmp_path / "git" / f"{'0' * 32}.git.old", tmp_path / "git" / "x.git.old"
    left.mkdir()
    foreign.mkdir()
    git = make_git(tmp_path)
    assert await contents(git, repository.url, first) == "one"
    assert not left.exists()
    assert foreign.exists()


FETCH_THAT_GROWS = """#!/bin/sh
case " $* " in
    *" fetch "*)
        echo >> {count}
        exec python3 -c 'import time; kept = bytearray(400_000_000); time.sleep(600)' ;;
    *) exec {git} "$@" ;;
esac
"""


@pytest_twisted.ensureDeferred
async def test_what_was_stopped_is_no_damage(repository: Repository, tmp_path: Path) -> None:
    """A fetch that had to be stopped is not begun again: what is here is not why."""
    first, second = repository.commit("one"), repository.commit("two")
    assert await contents(make_git(tmp_path), repository.url, first) == "one"
    count, program = tmp_path / "count", tmp_path / "bin" / "git"
    program.parent.mkdir()
    program.write_text(FETCH_THAT_GROWS.format(count=count, git=shutil.which("git")))
    program.chmod(0o755)
    environ = {"PATH": f"{program.parent}:{os.environ['PATH']}", "HOME": "/nonexistent"}
    processes = Processes(reactor, reactor, environ, memory=200_000_000)
    git = Git(reactor, processes, str(tmp_path / "git"))
    with pytest.raises(GitStopped, match="memory"):
        await git.checkout(repository.url, second)
    assert count.read_text() == "\n"
    assert await contents(git, repository.url, first) == "one"


@pytest_twisted.ensureDeferred
async def test_fetching_is_whole_or_not_at_all(
    git: Git, repository: Repository, tmp_path: Path
) -> None:
    """What is fetched comes in packs, however little: no commit is there without files."""
    for text in ("one", "two"):
        await contents(git, repository.url, repository.commit(text))
    (bare,) = (path for path in (tmp_path / "git").iterdir() if path.name != "tmp")
    assert {path.name for path in (bare / "objects").iterdir()} == {"info", "pack"}


@pytest_twisted.ensureDeferred
async def test_symbolic_links_lead_nowhere(
    git: Git, repository: Repository, tmp_path: Path
) -> None:
    """A tree whose link is in the way of its own files writes nothing where the link leads."""
    target = tmp_path / "target"
    target.mkdir()
    (repository.folder / "a").symlink_to(target)
    (repository.folder / "default.nix").write_text("x")
    repository.git("add", "-A")
    link = repository.git("ls-files", "-s", "a").replace("\t", " ").split()
    blob = repository.git("rev-parse", ":default.nix")
    inner = repository.git("mktree", input_text=f"100644 blob {blob}\tevil\n")
    tree = repository.git(
        "mktree", input_text=f"120000 blob {link[1]}\ta\n040000 tree {inner}\ta\n"
    )
    commit = repository.git("commit-tree", "-m", "x", tree)
    repository.git("branch", "-f", "evil", commit)
    with suppress(GitFailed):
        await git.discard(await git.checkout(repository.url, commit))
    assert list(target.iterdir()) == []


@pytest_twisted.ensureDeferred
async def test_deep_folders(git: Git, tmp_path: Path) -> None:
    """Files of a commit that lie deep are deleted like all others, and at the next start."""
    place = tmp_path / "git" / "tmp" / ("0" * 32)
    make = ["mkdir", "-p", f"{place}/source/{'/'.join('d' * 1500)}"]
    try:
        subprocess.run(make, check=True)
        await git.discard(f"{place}/source")
        assert not place.exists()
        subprocess.run(make, check=True)
        git.start()
        assert not place.exists()
    finally:
        subprocess.run(["rm", "-rf", str(place)], check=True)  # pytest can't
