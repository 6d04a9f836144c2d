"""Garbage collection of the store."""

from pathlib import Path
from typing import Any, cast

import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent

from nixery.nix.collecting import Collector
from tests.nix.kept_store import FakeCommands, Store

reactor: Any = _reactor
DAY = 86400.0


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
