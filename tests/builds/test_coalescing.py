"""Builds in turn: how many, for whom, for how long, and which are refused."""

from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from zope.interface import implementer

from nixery.builds.queue import GRACE
from nixery.interfaces import INix
from nixery.model.build_errors import BuildFailed, ClosureTooLarge, ImageTimedOut
from nixery.model.closure import Realisation
from nixery.model.events import BuildStarted, Emit, FetchesPlanned, Said
from nixery.model.image import Image, parse_image
from nixery.model.limits import BuildLimits
from nixery.model.manifest import Manifest
from nixery.model.request_errors import NameInvalid
from nixery.model.service_errors import QueueFull, ShuttingDown, StorageFull
from nixery.model.source import PinnedSource
from tests.builds.fakes import FakeNix, Parts, make_parts, reactor
from tests.history.histories import details


class Time(Clock):
    """A reactor whose time stands still."""

    def __getattr__(self, name: str) -> Any:
        return getattr(reactor, name)


def build(
    parts: Parts, name: str = "git", client: str = "", seen: list[str] | None = None
) -> "Deferred[Manifest]":
    async def pull() -> Manifest:
        on_build = None if seen is None else seen.append
        image = parse_image(name, "latest")
        return (await parts.builder.manifest(image, on_build, client)).manifest

    return Deferred.fromCoroutine(pull())


def limited(tmp_path: Path, clock: Any = reactor, **limits: Any) -> Parts:
    return make_parts(str(tmp_path), limits=BuildLimits(**limits), clock=clock)


@pytest_twisted.ensureDeferred
async def test_a_full_queue(tmp_path: Path) -> None:
    """One build runs, one waits, and what comes then is refused; a known image is not."""
    parts = limited(tmp_path, at_once=1, waiting=1)
    known = await build(parts, "known")
    parts.nix.gate = Deferred()
    running, waiting = build(parts, "git"), build(parts, "jq")
    with pytest.raises(QueueFull):
        await build(parts, "curl")
    assert await build(parts, "known") == known
    assert [image.name for image in parts.nix.asked] == ["known", "git"]
    joined = build(parts, "jq")
    assert (parts.builder.queue.running, parts.builder.queue.waiting) == (1, 1)
    parts.nix.gate.callback(None)
    assert await running
    assert await waiting == await joined
    assert await build(parts, "curl")
    assert (parts.builder.queue.running, parts.builder.queue.waiting) == (0, 0)


@pytest_twisted.ensureDeferred
async def test_those_who_wait_say_so(tmp_path: Path) -> None:
    """A build that waits for its turn is one that can be watched, and says that it waits."""
    parts = limited(tmp_path, at_once=1, waiting=1)
    parts.nix.gate = Deferred()
    seen: list[str] = []
    running, waiting = build(parts, "git", seen=seen), build(parts, "jq", seen=seen)
    first, second = [(await details(parts.history, id))["queued"] for id in seen]
    assert first is None
    assert second == {"running": 1, "waiting": 1}
    parts.nix.gate.callback(None)
    assert await running
    assert await waiting
    assert (await details(parts.history, seen[1]))["queued"] is None


@pytest_twisted.ensureDeferred
async def test_one_client_does_not_fill_the_queue(tmp_path: Path) -> None:
    """The newest build of who asks for most gives way to another client's."""
    parts = limited(tmp_path, at_once=1, waiting=2)
    parts.nix.gate = Deferred()
    greedy = [build(parts, name, "greedy") for name in ("git", "jq", "curl")]
    modest = build(parts, "nano", "modest")
    with pytest.raises(QueueFull):
        await greedy.pop()
    parts.nix.gate.callback(None)
    assert [await each for each in [*greedy, modest]]
    parts.nix.gate = None
    assert await build(parts, "curl", "greedy")  # it was not its fault


@pytest_twisted.ensureDeferred
async def test_failures_are_remembered(tmp_path: Path) -> None:
    """What failed is not tried again for a while, and the refusal names the build that found
    out; then it is."""
    clock = Time()
    parts = limited(tmp_path, clock, failure_ttl=60)
    parts.nix.error = BuildFailed("x-1.0", "it failed", [])
    seen: list[str] = []
    for _ in range(3):
        with pytest.raises(BuildFailed):
            await build(parts, seen=seen)
        clock.advance(20)
    assert len(parts.nix.asked) == 1
    assert len(set(seen)) == 1
    parts.nix.error = None
    assert await build(parts, "jq")
    assert await build(parts)
    assert len(parts.nix.asked) == 3


@pytest_twisted.ensureDeferred
async def test_another_revision_is_tried_at_once(tmp_path: Path) -> None:
    """A failure is one of a revision: a fixed one is built at once."""
    parts = limited(tmp_path)
    parts.nix.error = BuildFailed("x-1.0", "it failed", [])
    with pytest.raises(BuildFailed):
        await build(parts)
    parts.nix.error, parts.resolver.revision = None, "2"
    assert await build(parts)


@pytest_twisted.ensureDeferred
async def test_what_passes_is_not_remembered(tmp_path: Path) -> None:
    """A full storage says nothing of an image."""
    parts = limited(tmp_path)
    parts.nix.error = StorageFull()
    with pytest.raises(StorageFull):
        await build(parts)
    parts.nix.error = None
    assert await build(parts)


@pytest_twisted.ensureDeferred
async def test_the_whole_takes_too_long(tmp_path: Path) -> None:
    """A build that is not over in time is stopped and gives up its turn; waiting for a turn is
    not counted."""
    clock = Time()
    parts = limited(tmp_path, clock, at_once=1, waiting=1, seconds=100)
    left: list[object] = []
    parts.nix.gate = Deferred(left.append)
    late, waiting = build(parts), build(parts, "jq")
    clock.advance(99)
    assert not left
    parts.nix.gate = None
    clock.advance(1)
    with pytest.raises(ImageTimedOut) as caught:
        await late
    assert "100 s" in str(caught.value)
    assert len(left) == 1
    assert await waiting


@implementer(INix)
class Fetching(FakeNix):
    """Says that it is to fetch much, and then fetches until it is stopped."""

    async def realise(self, image: Image, pinned: PinnedSource, emit: Emit) -> Realisation:
        gate: Deferred[Realisation] = Deferred()
        reactor.callLater(0, emit, FetchesPlanned(10, 100, 1001))
        return await gate


@pytest_twisted.ensureDeferred
async def test_packages_that_take_too_much(tmp_path: Path) -> None:
    """An image of more than it may have is refused before it is packed; if Nix would have to
    load more than that, before it does."""
    parts = limited(tmp_path, closure_size=1009)  # the two paths have 1010 bytes
    with pytest.raises(ClosureTooLarge) as caught:
        await build(parts)
    assert (caught.value.size, caught.value.limit) == (1010, 1009)
    assert parts.packers.jobs == []
    assert parts.nix.released == ["guard of git"]
    parts = limited(tmp_path, closure_size=1010)
    assert await build(parts)
    parts = limited(tmp_path, closure_size=1000)
    parts.builder._maker._nix = Fetching(str(tmp_path))
    with pytest.raises(ClosureTooLarge):
        await build(parts)


@pytest_twisted.ensureDeferred
async def test_too_many_packages(tmp_path: Path) -> None:
    """A name of more packages than allowed reaches nothing; shell counts for none."""
    parts = limited(tmp_path, packages=2)
    with pytest.raises(NameInvalid) as caught:
        await build(parts, "shell/git/jq/curl")
    assert "it names 3 packages; the limit is 2" in str(caught.value)
    assert (parts.resolver.asked, parts.nix.asked) == ([], [])
    assert await build(parts, "shell/git/jq")


@pytest_twisted.ensureDeferred
async def test_a_build_that_gives_way(tmp_path: Path) -> None:
    """A build that everybody left is stopped when another is asked for, says that it waits, and
    is made when there is room, for whoever asks again; its source is asked for nothing more."""
    clock = Time()
    parts = limited(tmp_path, clock, at_once=1, waiting=5)
    left: list[object] = []
    parts.nix.gate = Deferred(left.append)
    seen: list[str] = []
    leaving = build(parts, "git", client="a", seen=seen)
    leaving.cancel()
    with pytest.raises(CancelledError):
        await leaving
    clock.advance(GRACE)
    assert not left
    gate: Deferred[None] = Deferred()
    parts.nix.gate = gate
    other = build(parts, "jq", client="b", seen=seen)
    assert len(left) == 1
    summary = await details(parts.history, seen[0])
    assert summary["queued"] == {"running": 1, "waiting": 1}
    parts.nix.gate = None
    again = build(parts, "git", client="c", seen=seen)
    gate.callback(None)
    assert await other
    assert await again
    assert seen[2] == seen[0]
    assert [image.name for image in parts.nix.asked] == ["git", "jq", "git"]
    assert (parts.builder.queue.running, parts.builder.queue.waiting) == (0, 0)
    assert parts.builder.queue.gave_way == {"abandoned": 1}


@pytest_twisted.ensureDeferred
async def test_last_words_of_a_build_that_gave_way(tmp_path: Path) -> None:
    """What Nix says while it is stopped is not told, whether the build waits or runs again."""
    clock = Time()
    parts = limited(tmp_path, clock, at_once=1, waiting=5)
    parts.nix.gate = Deferred()
    seen: list[str] = []
    leaving = build(parts, "git", client="a", seen=seen)
    emit = parts.nix.emit
    assert emit is not None
    leaving.cancel()
    with pytest.raises(CancelledError):
        await leaving
    clock.advance(GRACE)
    parts.nix.gate = gate = Deferred[None]()
    other = build(parts, "jq", client="b")
    emit(Said(0, "interrupted"))
    parts.nix.gate = last = Deferred[None]()
    again = build(parts, "git", client="c")
    gate.callback(None)
    await other
    emit(BuildStarted("stale"))
    last.callback(None)
    await again
    summary = await details(parts.history, seen[0])
    assert summary["derivations"] == []
    subscription = await parts.history.follow(seen[0], 0)
    assert subscription is not None
    block = await subscription.next()
    assert block is not None
    assert b"interrupted" not in block.data


@pytest_twisted.ensureDeferred
async def test_stop_while_builds_give_way(tmp_path: Path) -> None:
    """A build that gave way is given up with the others when the daemon stops."""
    clock = Time()
    parts = limited(tmp_path, clock, at_once=1, waiting=5)
    parts.nix.gate = Deferred()
    leaving = build(parts, "git", client="a")
    leaving.cancel()
    with pytest.raises(CancelledError):
        await leaving
    parts.nix.gate = Deferred()
    other = build(parts, "jq", client="b")
    clock.advance(GRACE)
    assert parts.builder.queue.gave_way == {"abandoned": 1}
    await parts.builder.stop()
    with pytest.raises(ShuttingDown):
        await other
    assert (parts.builder.queue.running, parts.builder.queue.waiting) == (0, 0)


@pytest_twisted.ensureDeferred
async def test_known_images_while_builds_are_given_up(tmp_path: Path) -> None:
    """When all builds are given up, what is known is still answered, and nothing is begun."""
    parts = limited(tmp_path, at_once=1, waiting=5)
    known = await build(parts, "known")
    parts.nix.gate = Deferred()
    running = build(parts, "git")
    await parts.builder.give_up()
    with pytest.raises(ShuttingDown):
        await running
    assert await build(parts, "known") == known
    with pytest.raises(ShuttingDown):
        await build(parts, "jq")
