# mypy: disable-error-code="import-untyped,untyped-decorator"
"""Blobs that are of use for as long as something takes."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock, deferLater

from nixery.builds.keep_alive import AGAIN, keep_alive
from nixery.model.digest import Digest
from nixery.model.image import parse_image
from nixery.model.service_errors import ShuttingDown, StorageUnavailable
from nixery.storage.memory import MemoryStorage
from tests.builds.fakes import make_parts, reactor
from tests.nix.clock import SteppedClock

A, B = Digest.of(b"a"), Digest.of(b"b")


def test_again_and_again() -> None:
    """Blobs are said to be of use at once and again, with those that come to them, and no more
    when that is over."""
    clock, storage = Clock(), MemoryStorage()
    with keep_alive(clock, storage, [A]) as keep:
        assert storage.used == [A]
        keep([B, A])
        clock.advance(AGAIN)
        assert storage.used == [A, A, B]
        clock.advance(AGAIN)
        assert storage.used == [A, A, B, A, B]
    clock.advance(10 * AGAIN)
    assert len(storage.used) == 5
    assert not clock.getDelayedCalls()


class Failing(MemoryStorage):
    """A storage that can't be told of use at first."""

    async def use(self, blobs: Sequence[Digest]) -> None:
        await super().use(blobs)
        if len(self.used) == 1:
            raise StorageUnavailable("no")


def test_failures_are_passed_over() -> None:
    """That something could not be noted ends nothing; it is tried again."""
    clock, storage = Clock(), Failing()
    with keep_alive(clock, storage, [A]):
        clock.advance(AGAIN)
    assert storage.used == [A, A]


@pytest_twisted.ensureDeferred
async def test_layers_of_a_long_build(tmp_path: Path) -> None:
    """While an image's last layer is still being packed, those that were there before and those
    that are made already are said to be of use, however long it takes."""
    clock = SteppedClock()
    parts = make_parts(str(tmp_path), clock=clock)
    await parts.builder.manifest(parse_image("x", "latest"))
    known = set(parts.storage.blobs)
    parts.packers.gate = Deferred()
    building = Deferred.fromCoroutine(parts.builder.manifest(parse_image("x/y", "latest")))
    jobs = len(parts.packers.jobs)
    while len(parts.packers.jobs) == jobs:
        await deferLater(reactor, 0.01, lambda: None)
    for _ in range(3):
        parts.storage.used.clear()
        clock.advance(AGAIN)
        assert parts.storage.used
        assert set(parts.storage.used) <= known
    parts.packers.gate.cancel()
    with pytest.raises(ShuttingDown):
        await building
    parts.storage.used.clear()
    clock.advance(10 * AGAIN)
    assert parts.storage.used == []
