"""From tags to revisions, with the real git."""

import os
from calendar import timegm
from pathlib import Path
from typing import Any, cast

import attrs
import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from zope.interface.verify import verifyObject

from nixery.interfaces import IResolver
from nixery.model.request_errors import TagNotServed, TooManyTags, UnknownTag
from nixery.model.service_errors import NixUnavailable, SourceUnavailable
from nixery.model.source import (
    NIXPKGS_URL,
    Channel,
    Commit,
    Flake,
    GitRepository,
    LockedFlake,
    PinnedSource,
)
from nixery.model.tags import TagPolicy
from nixery.nix.commands import Commands
from nixery.nix.git import Git
from nixery.nix.process import Processes
from nixery.nix.remember import PAUSE, Memory
from nixery.nix.resolve import FlakeResolver, GitResolver
from tests.nix.clock import SteppedClock
from tests.repository import Repository

pytestmark = pytest.mark.program

reactor: Any = _reactor

ALL = TagPolicy(("*",))
NOON = 12 * 3600


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    repository = Repository(tmp_path / "repository")
    repository.commit("first")
    return repository


def resolver(
    source: str | Channel,
    folder: Path,
    clock: Any = reactor,
    policy: TagPolicy = ALL,
    unreachable: bool = False,
) -> GitResolver:
    environ = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "GIT_ALLOW_PROTOCOL": "file"}
    git = Git(reactor, Processes(reactor, reactor, environ), str(folder / "git"))
    memory = Memory(clock, 30, True, str(folder / "revisions.json"))
    chosen = GitRepository(source) if isinstance(source, str) else source
    return GitResolver(git, chosen, memory, policy, unreachable)


def with_fake_git(source: GitRepository | Channel, folder: Path) -> GitResolver:
    """A ``git`` that notes its arguments and lists two branches."""
    git = folder / "git"
    git.write_text(
        f"""#!/bin/sh
printf '%s\\n' "$@" > '{folder}/arguments'
printf '%040d\\trefs/heads/%s\\n' 7 nixos-x 8 nixos-y
"""
    )
    git.chmod(0o755)
    processes = Processes(reactor, reactor, {"PATH": f"{folder}:{os.environ['PATH']}"})
    memory = Memory(reactor, 30, False, str(folder / "revisions.json"))
    return GitResolver(Git(reactor, processes, str(folder)), source, memory, ALL)


async def revision(resolver: IResolver, tag: str) -> str:
    """The revision of a tag, which from then on is known without asking."""
    pinned = await resolver.resolve(tag)
    assert resolver.current(tag) == pinned
    return pinned.revision


@pytest_twisted.ensureDeferred
async def test_every_kind_of_name(repository: Repository, tmp_path: Path) -> None:
    """``latest`` is HEAD; branches, tags and annotated tags are the commits they stand on; a full
    commit is itself."""
    first = repository.git("rev-parse", "HEAD")
    repository.git("tag", "light")
    repository.git("tag", "-a", "heavy", "-m", "annotated")
    second = repository.commit("second")
    repository.git("branch", "other", first)
    ours = resolver(repository.url, tmp_path)
    assert verifyObject(IResolver, ours)
    assert await revision(ours, "latest") == second
    assert await revision(ours, "main") == second
    for tag in ("other", "light", "heavy", first):
        assert await revision(ours, tag) == first


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("tag", ["nosuch", "a..b", "heads", "main_", "refs", "0" * 39])
async def test_unknown_names(repository: Repository, tmp_path: Path, tag: str) -> None:
    """A name that stands for nothing is said to be unknown."""
    with pytest.raises(UnknownTag):
        await revision(resolver(repository.url, tmp_path), tag)


@pytest_twisted.ensureDeferred
async def test_unknown_names_are_remembered(repository: Repository, tmp_path: Path) -> None:
    """A tag that was unknown is so until its time has passed; one that nobody asked for is known as
    soon as it is pushed, though the last listing is young."""
    clock = SteppedClock()
    ours = resolver(repository.url, tmp_path, clock)
    head = repository.git("rev-parse", "HEAD")
    with pytest.raises(UnknownTag):
        await revision(ours, "new")
    for name in ("new", "other"):
        repository.git("branch", name)
    clock.advance(PAUSE)
    assert await revision(ours, "other") == head
    with pytest.raises(UnknownTag):
        await revision(ours, "new")
    clock.advance(30)
    assert await revision(ours, "new") == head


@pytest_twisted.ensureDeferred
async def test_deleted_and_moved_names(repository: Repository, tmp_path: Path) -> None:
    """A tag that was deleted is unknown when its kept answer has passed its time, and never served
    as stale; a branch that was moved back is what it was moved to."""
    clock = SteppedClock()
    first = repository.git("rev-parse", "HEAD")
    repository.git("tag", "gone")
    repository.commit("second")
    ours = resolver(repository.url, tmp_path, clock)
    assert await revision(ours, "gone") == first
    assert await revision(ours, "main") != first
    repository.git("tag", "-d", "gone")
    repository.git("reset", "-q", "--hard", first)
    clock.advance(31)
    with pytest.raises(UnknownTag):
        await revision(ours, "gone")
    assert await revision(ours, "main") == first


@pytest_twisted.ensureDeferred
async def test_where_every_commit_is_served(tmp_path: Path) -> None:
    """Where commits need not be reachable, a full one is a revision already: no remote is asked."""
    for commit in ("0" * 40, "a1" * 32):
        ours = resolver("file:///no/such/repository", tmp_path, unreachable=True)
        assert await revision(ours, commit) == commit


@pytest_twisted.ensureDeferred
async def test_urls_are_arguments_and_no_options(tmp_path: Path) -> None:
    """git gets a URL after ``--``, whatever it looks like, and no name that a client made up."""
    ours = with_fake_git(GitRepository("--upload-pack=true"), tmp_path)
    with pytest.raises(UnknownTag):
        await revision(ours, "_x")
    arguments = (tmp_path / "arguments").read_text().splitlines()
    assert arguments[arguments.index("--") + 1] == "--upload-pack=true"
    assert not any("_x" in argument for argument in arguments)


@pytest.mark.parametrize(("tag", "digit"), [("latest", "7"), ("nixos-y", "8")])
@pytest_twisted.ensureDeferred
async def test_channels(tmp_path: Path, tag: str, digit: str) -> None:
    """A channel's ``latest`` is the branch of its name in nixpkgs; tags name other channels."""
    ours = with_fake_git(Channel("nixos-x"), tmp_path)
    pin = Commit(NIXPKGS_URL, digit.zfill(40))
    assert await ours.resolve(tag) == PinnedSource(Channel("nixos-x"), pin)
    assert NIXPKGS_URL in (tmp_path / "arguments").read_text().splitlines()


@pytest_twisted.ensureDeferred
async def test_a_commit_as_a_channel(tmp_path: Path) -> None:
    """A channel may be named by a commit, which is ``latest`` then, and needs no branch."""
    ours = resolver(Channel("5" * 40, "file:///no/such/repository"), tmp_path)
    for tag in ("latest", "5" * 40):
        assert await revision(ours, tag) == "5" * 40


@pytest_twisted.ensureDeferred
async def test_dates_of_revisions(repository: Repository, tmp_path: Path) -> None:
    """A revision has the date of its commit, by whatever name it was asked for."""
    commit = repository.commit("second", 1_700_000_000)
    repository.git("tag", "-a", "v2", "-m", "x")
    ours = resolver(repository.url, tmp_path)
    for tag in ("latest", "main", "v2", commit):
        assert await ours.date(await ours.resolve(tag)) == 1_700_000_000
    gone = resolver("file:///no/such/repository", tmp_path, unreachable=True)
    with pytest.raises(SourceUnavailable):
        await gone.date(await gone.resolve("5" * 40))


@pytest_twisted.ensureDeferred
async def test_answers_are_kept_for_a_while(repository: Repository, tmp_path: Path) -> None:
    """A push is seen when the kept answer has passed its time, and not before."""
    clock = SteppedClock()
    ours = resolver(repository.url, tmp_path, clock)
    first = await revision(ours, "latest")
    second = repository.commit("second")
    clock.advance(29)
    assert await revision(ours, "latest") == first
    clock.advance(2)
    assert await revision(ours, "latest") == second


@pytest_twisted.ensureDeferred
async def test_a_push_that_is_told(repository: Repository, tmp_path: Path) -> None:
    """A push that the forge tells of is seen at once, and so is a tag that was unknown before; a
    source that is away keeps its last revision."""
    ours = resolver(repository.url, tmp_path)
    await revision(ours, "latest")
    with pytest.raises(UnknownTag):
        await ours.resolve("v9")
    second = repository.commit("second")
    repository.git("tag", "v9")
    await ours.refresh()
    assert [await revision(ours, tag) for tag in ("latest", "v9")] == [second, second]
    repository.folder.rename(tmp_path / "away")
    with pytest.raises(SourceUnavailable):
        await ours.refresh()
    assert await revision(ours, "latest") == second


@pytest_twisted.ensureDeferred
async def test_a_remote_that_is_gone(repository: Repository, tmp_path: Path) -> None:
    """While a remote can't be read, what is known of it is served, marked as stale, also after a
    restart; what was never asked for is unavailable."""
    clock = SteppedClock()
    ours = resolver(repository.url, tmp_path, clock)
    first = await ours.resolve("main")
    assert not first.stale
    repository.folder.rename(tmp_path / "away")
    clock.advance(31)
    for _ in range(2):
        pinned = await ours.resolve("main")
        assert (pinned.revision, pinned.stale) == (first.revision, True)
        with pytest.raises(SourceUnavailable):
            await ours.resolve("other")
        await ours.stop()
        ours = resolver(repository.url, tmp_path, clock)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    "url",
    [
        "file:///no/such/repository",
        "--upload-pack=touch {mark}",
        "ext::sh -c true",
        "https://u:secret@h/",
    ],
)
async def test_unreachable_sources(tmp_path: Path, url: str) -> None:
    """A source that can't be read is said to be so; a URL is never an option, a command, or told
    with its credentials."""
    mark = tmp_path / "mark"
    url = url.format(mark=mark)
    for ask in (resolver(url, tmp_path).resolve("latest"), resolver(url, tmp_path).tags()):
        with pytest.raises(SourceUnavailable) as caught:
            await ask
        assert "secret" not in str(caught.value)
    assert not mark.exists()


@pytest_twisted.ensureDeferred
async def test_tags(repository: Repository, tmp_path: Path) -> None:
    """The tags of a source are its branches and tags whose names can be tags, and ``latest``."""
    for name in ("nixos-b", "nixos-a", "feature/x", "secret"):
        repository.git("branch", name)
    repository.git("tag", "-a", "nixos-1.0", "-m", "annotated")
    ours = resolver(repository.url, tmp_path)
    assert await ours.tags() == ["latest", "main", "nixos-1.0", "nixos-a", "nixos-b", "secret"]
    some = resolver(repository.url, tmp_path, policy=TagPolicy(("nixos-*",)))
    assert await some.tags() == ["latest", "nixos-1.0", "nixos-a", "nixos-b"]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("tag", ["main", "0" * 40, "2026-06-01"])
async def test_tags_that_are_not_served(repository: Repository, tmp_path: Path, tag: str) -> None:
    """A tag outside of the operator's patterns is refused before the remote is asked."""
    ours = resolver(Channel("main", repository.url), tmp_path, policy=TagPolicy(("nixos-*",)))
    with pytest.raises(TagNotServed, match=tag):
        await ours.resolve(tag)
    assert ours.current(tag) is None
    assert await revision(ours, "latest") == repository.git("rev-parse", "HEAD")


@pytest_twisted.ensureDeferred
async def test_dates(tmp_path: Path) -> None:
    """A date is the last commit of that day on a channel's first-parent line; what was merged is
    not on it, and a day without commits has none."""
    repository = Repository(tmp_path / "repository")

    def commit(text: str, day: int, seconds: int = NOON) -> str:
        return repository.commit(text, timegm((2026, 6, day, 0, 0, 0)) + seconds)

    commit("before", 1)
    commit("morning", 2)
    last = commit("evening", 2, 86399)
    repository.git("checkout", "-q", "-b", "side")
    commit("on a side line", 3)
    repository.git("checkout", "-q", "main")
    repository.git(
        *("merge", "-q", "--no-ff", "-m", "merge", "side"),
        GIT_COMMITTER_DATE=f"@{timegm((2026, 6, 4, 0, 0, 0))} +0000",
    )
    merged = repository.git("rev-parse", "HEAD")
    ours = resolver(Channel("main", repository.url), tmp_path)
    assert await revision(ours, "2026-06-04") == merged
    assert await revision(ours, "2026-06-02") == last
    for tag in ("2026-06-03", "2026-06-05", "2026-05-31", "2026-06-31", "1970-01-01"):
        with pytest.raises(UnknownTag, match=tag):
            await ours.resolve(tag)


@pytest_twisted.ensureDeferred
async def test_a_day_that_goes_on(tmp_path: Path) -> None:
    """Commits that come later on the day that is asked for are seen."""
    clock = SteppedClock()
    repository = Repository(tmp_path / "repository")
    day = timegm((2026, 6, 1, 0, 0, 0))
    first = repository.commit("first", day + 1)
    ours = resolver(Channel("main", repository.url), tmp_path, clock)
    assert await revision(ours, "2026-06-01") == first
    second = repository.commit("second", day + 2)
    clock.advance(31)
    assert await revision(ours, "2026-06-01") == second


@pytest_twisted.ensureDeferred
async def test_repositories_have_no_dates(repository: Repository, tmp_path: Path) -> None:
    """A date is a tag like others for a repository that is no channel."""
    ours = resolver(repository.url, tmp_path)
    with pytest.raises(UnknownTag):
        await ours.resolve("2026-06-02")
    repository.git("tag", "2026-06-01")
    assert await revision(ours, "2026-06-01") == repository.git("rev-parse", "HEAD")


class SlowRemote(Git):
    """A remote that lists its branches when it is told to.

    :ivar listings: those that are being waited for.
    :ivar branches: that it has.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(reactor, Processes(reactor, reactor, {}), str(folder))
        self.branches = ["main"]
        self.listings: list[Deferred[str]] = []
        self.asked = 0

    async def list(self, url: str, head: bool) -> str:
        self.asked += 1
        self.listings.append(Deferred())
        return await self.listings[-1]

    def answer(self) -> None:
        listed = "".join(f"{1:040}\trefs/heads/{name}\n" for name in self.branches)
        self.listings.pop(0).callback(listed)


@pytest_twisted.ensureDeferred
async def test_made_up_tags(tmp_path: Path) -> None:
    """While one client asks for a hundred made-up tags, another's known tag is answered at once,
    and a new one by the next listing; a few listings answer all, and what was unknown asks for no
    more."""
    clock = SteppedClock()
    remote = SlowRemote(tmp_path)
    ours = GitResolver(
        remote, GitRepository("url"), Memory(clock, 30, True, str(tmp_path / "x")), ALL
    )

    def ask(tag: str, client: str) -> "Deferred[str]":
        return Deferred.fromCoroutine(_revision_for(ours, tag, client))

    known = ask("main", "b")
    remote.answer()
    await known
    clock.advance(PAUSE)
    made_up = [ask(f"made-up-{number}", "a") for number in range(100)]
    assert await ask("main", "b") == f"{1:040}"
    clock.advance(1)
    remote.branches.append("new")
    new = ask("new", "b")
    for _ in range(2):
        remote.answer()
        clock.advance(PAUSE)
    assert await new == f"{1:040}"
    for each in made_up:
        with pytest.raises(UnknownTag):
            await each
    assert remote.asked <= 3
    for number in range(100):
        with pytest.raises(UnknownTag):
            await ask(f"made-up-{number}", "a")
    assert remote.asked <= 3
    await ours.stop()


async def _revision_for(resolver: GitResolver, tag: str, client: str) -> str:
    return (await resolver.resolve(tag, client)).revision


@pytest_twisted.ensureDeferred
async def test_one_client_has_a_bound(tmp_path: Path) -> None:
    """Of one client, a bounded number of tags is looked for at once, and others have theirs."""
    clock = SteppedClock()
    remote = SlowRemote(tmp_path)
    ours = GitResolver(
        remote, GitRepository("url"), Memory(clock, 30, True, str(tmp_path / "x")), ALL
    )
    asked = [
        Deferred.fromCoroutine(ours.resolve(f"made-up-{number}", "a")) for number in range(256)
    ]
    with pytest.raises(TooManyTags):
        await ours.resolve("one-more", "a")
    other = Deferred.fromCoroutine(ours.resolve("main", "b"))
    remote.answer()
    assert (await other).revision == f"{1:040}"
    for each in asked:
        with pytest.raises(UnknownTag):
            await each
    assert await _revision_for(ours, "main", "a") == f"{1:040}"
    await ours.stop()


@pytest_twisted.ensureDeferred
async def test_days_go_round_by_client(tmp_path: Path) -> None:
    """While one client asks for many days, another waits for one of them."""
    repository = Repository(tmp_path / "repository")
    for number in range(1, 6):
        repository.commit(str(number), timegm((2026, 6, number, 12, 0, 0)))
    ours = resolver(Channel("main", repository.url), tmp_path)
    await ours.resolve("latest")
    found: list[str] = []

    async def ask(day: str, client: str) -> None:
        await ours.resolve(day, client)
        found.append(client)

    asked = [("2026-06-05", "a"), ("2026-06-04", "a"), ("2026-06-03", "a"), ("2026-06-02", "b")]
    for each in [Deferred.fromCoroutine(ask(*question)) for question in asked]:
        await each
    assert found == ["a", "a", "b", "a"]


@attrs.define
class Locks:
    """Nix, which knows what a flake stands for, or can't be asked."""

    locked: LockedFlake | None

    async def lock(self, reference: str) -> LockedFlake:
        if self.locked is None:
            raise NixUnavailable("it is away")
        return self.locked


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("date", [1_700_000_000, None])
async def test_flakes(tmp_path: Path, date: int | None) -> None:
    """A flake is what it was locked to, with the date of its commit if it is one; so it is after a
    restart, while it can't be asked."""
    locked = LockedFlake("path:/a b?narHash=x", "7" * 40, date)
    for answer in (locked, None):
        memory = Memory(reactor, 30, True, str(tmp_path / "revisions.json"))
        ours = FlakeResolver(cast(Commands, Locks(answer)), Flake("flake"), memory)
        pinned = await ours.resolve("latest")
        assert pinned == PinnedSource(Flake("flake"), locked)
        assert pinned.stale == (answer is None)
        assert ours.current("latest") == pinned
        assert ours.current("other") is None
        assert await ours.date(pinned) == date
        if answer is not None:
            await ours.refresh()
            assert ours.current("latest") == pinned
        await ours.stop()
    with pytest.raises(UnknownTag):
        await ours.resolve("other")
