"""Folders as package sources."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from zope.interface.verify import verifyObject

from nixery.interfaces import IResolver
from nixery.model.request_errors import UnknownTag
from nixery.model.service_errors import ShuttingDown, SourceUnavailable
from nixery.model.source import (
    Commit,
    Configuration,
    FolderContents,
    LocalFolder,
    Pin,
    PinnedSource,
)
from nixery.nix import folders, watched_tree
from nixery.nix.fingerprint import Fingerprints
from nixery.nix.folders import ConfiguredResolver, FolderResolver
from nixery.nix.git import Git
from nixery.nix.process import Processes
from nixery.nix.watched_tree import WatchedTree
from tests.repository import Repository

reactor: Any = _reactor


class CountingProcesses(Processes):
    """Counts what is started."""

    def __init__(self) -> None:
        super().__init__(reactor, reactor, {"PATH": os.environ["PATH"], "HOME": "/nonexistent"})
        self.started = 0

    def run(self, *arguments: Any, **options: Any) -> Any:
        self.started += 1
        return super().run(*arguments, **options)


def resolver(
    folder: Path, processes: Processes | None = None, mirrors: Path = Path("/nonexistent")
) -> FolderResolver:
    git = Git(reactor, processes or CountingProcesses(), str(mirrors))
    return FolderResolver(reactor, git, LocalFolder(str(folder)))


async def pin(ours: FolderResolver) -> Pin:
    return (await resolved(ours)).pin


async def resolved(ours: IResolver) -> PinnedSource:
    """What is known without a look is what a look finds."""
    known = ours.current("latest")
    pinned = await ours.resolve("latest")
    assert known in (None, pinned)
    return pinned


@pytest_twisted.ensureDeferred
async def test_folders(tmp_path: Path) -> None:
    """A folder's revision is its contents: it changes with them, and only then."""
    (tmp_path / "default.nix").write_text("one")
    processes = CountingProcesses()
    ours = resolver(tmp_path, processes)
    assert verifyObject(IResolver, ours)
    first = await ours.resolve("latest")
    assert isinstance(first.pin, FolderContents)
    assert await ours.resolve("latest") == first
    assert await ours.unchanged(first)
    (tmp_path / "default.nix").write_text("two")
    assert not await ours.unchanged(first)
    assert (await ours.resolve("latest")).revision != first.revision
    (tmp_path / "default.nix").write_text("one")
    assert ours.current("latest") is None
    assert await ours.resolve("latest") == first
    assert ours.current("latest") == first
    assert ours.current("main") is None
    assert await ours.tags() == ["latest"]
    with pytest.raises(UnknownTag):
        await ours.resolve("main")
    assert processes.started == 0


@pytest_twisted.ensureDeferred
async def test_folders_that_vanished(tmp_path: Path) -> None:
    """A folder that is no more is a source that can't be read."""
    with pytest.raises(SourceUnavailable):
        await pin(resolver(tmp_path / "none"))


@pytest_twisted.ensureDeferred
async def test_store_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store path never changes: it is its own revision, and nothing of it is read."""
    path = tmp_path / ("a" * 32 + "-set")
    path.mkdir()
    pattern = folders._STORE_PATH.pattern.replace("/nix/store", str(tmp_path))
    monkeypatch.setattr(folders, "_STORE_PATH", re.compile(pattern))
    for reads in ("look", "take"):
        monkeypatch.setattr(Fingerprints, reads, None)
    link = tmp_path / "link"
    link.symlink_to(path)
    for folder in (path, path / ".", link):
        ours = resolver(folder)
        for _ in range(2):
            assert await pin(ours) == FolderContents(str(path), str(path))
        assert ours.current("latest") is not None
    link.unlink()
    assert ours.current("latest") is None


@pytest_twisted.ensureDeferred
async def test_links_that_change_during_a_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A link that leads to another store path just as it is looked at is noticed."""
    one, two = (tmp_path / (32 * name + "-set") for name in "ab")
    one.mkdir()
    two.mkdir()
    pattern = folders._STORE_PATH.pattern.replace("/nix/store", str(tmp_path))
    monkeypatch.setattr(folders, "_STORE_PATH", re.compile(pattern))
    link = tmp_path / "link"
    link.symlink_to(one)

    class Changing(WatchedTree):
        def __init__(self, *arguments: Any) -> None:
            link.unlink()
            link.symlink_to(two)
            super().__init__(*arguments)

    monkeypatch.setattr(folders, "WatchedTree", Changing)
    ours = resolver(link)
    await pin(ours)
    assert await pin(ours) == FolderContents(str(two), str(two))


@pytest.mark.program
@pytest_twisted.ensureDeferred
async def test_clean_work_trees(tmp_path: Path) -> None:
    """A work tree with the files of its commit is that commit; untouched, it starts no process."""
    repository = Repository(tmp_path)
    first = repository.commit("one")
    processes = CountingProcesses()
    ours = resolver(tmp_path, processes)
    pinned = await ours.resolve("latest")
    assert pinned.pin == Commit(str(tmp_path), first)
    started = processes.started
    assert await resolved(ours) == pinned
    assert processes.started == started
    (tmp_path / "default.nix").write_text("two")
    assert isinstance(await pin(ours), FolderContents)
    assert await ours.unchanged(pinned)
    second = repository.commit("two")
    assert await pin(ours) == Commit(str(tmp_path), second)
    repository.git("checkout", "-q", first)
    assert await pin(ours) == Commit(str(tmp_path), first)
    repository.git("remote", "add", "origin", "https://example.com/set")
    assert await pin(ours) == Commit(str(tmp_path), first, "https://example.com/set")


@pytest.mark.program
@pytest_twisted.ensureDeferred
async def test_dates(tmp_path: Path) -> None:
    """A clean work tree has the date of its commit; an edited one has none."""
    folder = tmp_path / "set"
    ours = resolver(folder, mirrors=tmp_path / "git")
    commit = Repository(folder).commit("one", 1_700_000_000)
    told = ConfiguredResolver(reactor, ours, Configuration())
    assert await told.date(await told.resolve("latest")) == 1_700_000_000
    (folder / "default.nix").write_text("two")
    assert await told.date(await told.resolve("latest")) is None
    with pytest.raises(SourceUnavailable, match="no commit") as caught:
        await told.date(PinnedSource(LocalFolder(str(folder)), Commit(str(folder), commit[::-1])))
    assert str(tmp_path) not in str(caught.value)
    away = folder.rename(tmp_path / "away")
    with pytest.raises(SourceUnavailable, match="'set'") as caught:
        await told.date(PinnedSource(LocalFolder(str(folder)), Commit(str(folder), commit[::-1])))
    assert str(tmp_path) not in str(caught.value)
    away.rename(folder)


def unborn(repository: Repository) -> None:
    (repository.folder / "default.nix").touch()


def untracked(repository: Repository) -> None:
    repository.commit("one")
    (repository.folder / "new").touch()


def ignored(repository: Repository) -> None:
    repository.commit("one")
    (repository.folder / ".git" / "info" / "exclude").write_text("ignored\n")
    (repository.folder / "ignored").touch()


def staged(repository: Repository) -> None:
    untracked(repository)
    repository.git("add", "new")


def deleted(repository: Repository) -> None:
    repository.commit("one")
    (repository.folder / "default.nix").unlink()


def executable(repository: Repository) -> None:
    repository.commit("one")
    (repository.folder / "default.nix").chmod(0o755)


def broken(repository: Repository) -> None:
    repository.commit("one")
    (repository.folder / ".git" / "HEAD").write_text("nonsense")


DIRTY = [unborn, untracked, ignored, staged, deleted, executable, broken]


@pytest.mark.program
@pytest.mark.parametrize("make", DIRTY, ids=lambda make: make.__name__)
@pytest_twisted.ensureDeferred
async def test_other_work_trees(tmp_path: Path, make: Callable[[Repository], None]) -> None:
    """A work tree that has anything else in it, or no commit, is its contents."""
    make(Repository(tmp_path))
    assert isinstance(await pin(resolver(tmp_path)), FolderContents)


@pytest_twisted.ensureDeferred
async def test_overlays_are_part_of_the_revision(tmp_path: Path) -> None:
    """Overlays that are edited make another pin, though the set is the same."""
    (tmp_path / "set").mkdir()
    overlays = tmp_path / "overlays.nix"
    overlays.write_text("[ ]")
    told = Configuration('{"allowUnfree":true}', str(overlays))
    ours = ConfiguredResolver(reactor, resolver(tmp_path / "set"), told)
    assert verifyObject(IResolver, ours)
    first = await ours.resolve("latest")
    assert first.configuration is not None
    assert (first.configuration.config, first.configuration.overlays) == (
        told.config,
        told.overlays,
    )
    assert await ours.unchanged(first)
    assert ours.current("latest") == first
    (tmp_path / "set" / "new").touch()
    assert ours.current("latest") is None
    (tmp_path / "set" / "new").unlink()
    assert await ours.resolve("latest") == first
    overlays.write_text("[ (a: b: { }) ]")
    assert ours.current("latest") is None
    assert not await ours.unchanged(first)
    second = await ours.resolve("latest")
    assert (second.pin, second.configuration) != (first.pin, first.configuration)
    overlays.unlink()
    with pytest.raises(SourceUnavailable, match="overlays"):
        await ours.resolve("latest")


class Looking(FolderResolver):
    """Counts its looks at a folder."""

    looks = 0

    def _look(self, before: WatchedTree | None) -> tuple[str, str, WatchedTree]:
        self.looks += 1
        return super()._look(before)


@pytest_twisted.ensureDeferred
async def test_walked_when_edited(tmp_path: Path) -> None:
    """A folder is walked again when it was edited, and not otherwise."""
    (tmp_path / "default.nix").write_text("one")
    git = Git(reactor, CountingProcesses(), "/nonexistent")
    ours = Looking(reactor, git, LocalFolder(str(tmp_path)))
    first = await resolved(ours)
    assert await resolved(ours) == first
    assert await ours.unchanged(first)
    assert ours.looks == 1
    (tmp_path / "default.nix").write_text("two")
    assert await resolved(ours) != first
    assert ours.looks == 2


@pytest.mark.parametrize("told", [True, False])
@pytest_twisted.ensureDeferred
async def test_looks_are_shared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: bool
) -> None:
    """Requests during a look share the next one, whether or not the kernel tells of changes, and
    get what was there when they came; after the stop, they get nothing."""
    if not told:
        monkeypatch.setattr(watched_tree, "is_told", lambda path: False)
    (tmp_path / "default.nix").write_text("one")
    git = Git(reactor, CountingProcesses(), "/nonexistent")
    ours = Looking(reactor, git, LocalFolder(str(tmp_path)))
    first = Deferred.fromCoroutine(pin(ours))
    (tmp_path / "default.nix").write_text("two, which is longer")
    others = [Deferred.fromCoroutine(pin(ours)) for _ in range(50)]
    others.pop().addErrback(lambda _: None).cancel()  # who leaves hurts nobody
    await first
    (found,) = {await other for other in others}
    assert ours.looks <= 2 if told else ours.looks == 2
    assert found == await pin(ours)
    await ours.stop()
    with pytest.raises(ShuttingDown):
        await pin(ours)
