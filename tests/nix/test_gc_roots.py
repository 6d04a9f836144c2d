"""Roots of images that were made, and the garbage of the store."""

import os
from pathlib import Path
from typing import Any, cast

import attrs
import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent

from nixery.model.errors import NixUnavailable
from nixery.nix.child import Ended
from nixery.nix.collecting import Collector
from nixery.nix.gc_roots import KeptRoots

reactor: Any = _reactor
DAY = 86400.0


@attrs.define
class FakeCommands:
    """Makes links as Nix does, and notes what is collected.

    :ivar error: what making links fails with.
    :ivar code: what collecting ends with, and what it has said.
    """

    store: Any
    collected: list[tuple[str, ...]] = attrs.Factory(list)
    error: Exception | None = None
    code: int = 0
    errors: str = "deleting unused links...\nnote: hard linking saves -0.00 MiB"

    async def keep(self, paths: list[str], link: str) -> None:
        if self.error is not None:
            raise self.error
        for number, path in enumerate(paths, 1):
            Path(self.store + path).touch()
            os.symlink(path, link if number == 1 else f"{link}-{number}")

    async def run(self, *command: str, **options: Any) -> Ended:
        self.collected.append(command)
        freed = b"2 store paths deleted, 0.01 MiB freed\n"
        return Ended(self.code, None, False, freed, errors=self.errors)


class Store:
    """Kept roots in a folder, at a time of the test's own."""

    def __init__(self, folder: Path, days: float = 30) -> None:
        (folder / "nix" / "store").mkdir(parents=True)
        self.commands = FakeCommands(str(folder))
        self.time = 1e9
        self.folder = folder / "kept"
        commands: Any = self.commands
        self.kept = KeptRoots(reactor, commands, str(self.folder), days, lambda: self.time)

    def images(self) -> list[list[str]]:
        """The store paths of each image that is kept."""
        if not self.folder.exists():
            return []
        return sorted(
            sorted(os.readlink(link) for link in image.iterdir()) for image in self.folder.iterdir()
        )


@pytest_twisted.ensureDeferred
async def test_kept_and_dropped(tmp_path: Path) -> None:
    """Roots are kept for some days after they were needed last."""
    store = Store(tmp_path)
    await store.kept.keep(["/nix/store/b", "/nix/store/a"])
    await store.kept.keep(["/nix/store/c"])
    assert store.images() == [["/nix/store/a", "/nix/store/b"], ["/nix/store/c"]]
    store.time += 29 * DAY
    await store.kept.keep(["/nix/store/a", "/nix/store/b"])
    store.time += 2 * DAY
    assert await store.kept.expire() == 1
    assert store.images() == [["/nix/store/a", "/nix/store/b"]]


@pytest_twisted.ensureDeferred
async def test_a_store_that_was_deleted(tmp_path: Path) -> None:
    """Roots of a store that is no more are made anew with what is made anew: in the new store,
    Nix has not heard of them."""
    store = Store(tmp_path)
    await store.kept.keep(["/nix/store/a", "/nix/store/b"])
    await store.kept.keep(["/nix/store/c"])
    (tmp_path / "nix" / "store" / "b").unlink()
    assert await store.kept.expire() == 1
    assert store.images() == [["/nix/store/c"]]


@pytest_twisted.ensureDeferred
async def test_nothing_is_kept(tmp_path: Path) -> None:
    """Whoever wants nothing kept has nothing kept."""
    store = Store(tmp_path, 0)
    await store.kept.keep(["/nix/store/a"])
    assert store.images() == []


@pytest_twisted.ensureDeferred
async def test_keeping_fails(tmp_path: Path) -> None:
    """That roots can't be kept is no reason for a build to fail; the next one tries again."""
    store = Store(tmp_path)
    store.commands.error = NixUnavailable("no")
    await store.kept.keep(["/nix/store/a"])
    store.commands.error = None
    await store.kept.keep(["/nix/store/a"])
    assert store.images() == [["/nix/store/a"]]


@pytest_twisted.ensureDeferred
async def test_little_room(tmp_path: Path) -> None:
    """With too little room, what nobody keeps goes, and then the images not needed for longest."""
    store = Store(tmp_path)
    for name in "abcd":
        await store.kept.keep([f"/nix/store/{name}"])
        store.time += 1
    collector = Collector(reactor, cast(Any, store.commands), store.kept, 10**18)
    dropped: list[int] = []
    original = store.kept.drop_oldest

    async def drop() -> int:
        dropped.append(await original())
        return dropped[-1] if len(dropped) < 2 else 0

    store.kept.drop_oldest = drop  # type: ignore[method-assign]
    with capturedLogs() as captured:
        await collector.collect()
    assert store.images() == []
    assert collector.collections == 2
    assert "2 store paths deleted" in formatEvent(captured[-1])
    assert store.commands.collected[0][:3] == ("nix-store", "--gc", "--max-freed")


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("errors", "said"),
    [("waiting\nerror: it is locked", "error: it is locked"), ("", "nix-store ended with code 1")],
)
async def test_collecting_fails(tmp_path: Path, errors: str, said: str) -> None:
    """While Nix can't collect, since another has its lock for one, no roots are given up for it,
    and the log has the reason."""
    store = Store(tmp_path)
    await store.kept.keep(["/nix/store/a"])
    store.commands.code, store.commands.errors = 1, errors
    collector = Collector(reactor, cast(Any, store.commands), store.kept, 10**18)
    with capturedLogs() as captured:
        await collector.collect()
    assert formatEvent(captured[-1]) == f"no garbage was collected: {said}"
    assert collector.collections == 1
    assert store.images() == [["/nix/store/a"]]


@pytest_twisted.ensureDeferred
async def test_no_store_yet(tmp_path: Path) -> None:
    """Where Nix has made no store yet, there is nothing to collect, nor to complain of."""
    store = Store(tmp_path)
    (tmp_path / "nix" / "store").rmdir()
    collector = Collector(reactor, cast(Any, store.commands), store.kept, 10**18)
    with capturedLogs() as captured:
        await collector.collect()
    assert collector.collections == 0
    assert not captured


@pytest_twisted.ensureDeferred
async def test_enough_room(tmp_path: Path) -> None:
    """With enough room, and in the machine's own store, nothing is collected."""
    store = Store(tmp_path)
    await Collector(reactor, cast(Any, store.commands), store.kept, 1).collect()
    await Collector(reactor, cast(Any, store.commands), store.kept, 0).collect()
    store.commands.store = None
    await Collector(reactor, cast(Any, store.commands), store.kept, None).collect()
    assert store.commands.collected == []


def test_a_loop_that_breaks(tmp_path: Path) -> None:
    """If looking at the disk fails for a fault of ours, the log says what is not done any more."""
    clock = Clock()
    collector = Collector(cast(Any, clock), cast(Any, FakeCommands("/x")), cast(Any, None), 1)
    with capturedLogs() as captured:
        collector.start()
    [event] = captured
    assert "garbage" in formatEvent(event)
    assert isinstance(event["log_failure"].value, AttributeError)
