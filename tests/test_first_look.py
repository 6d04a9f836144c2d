"""What every start finds out."""

from typing import Any, cast

import pytest_twisted
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent

from nixery.first_look import FIRST_WAIT, FirstLook
from nixery.model.example import USUAL
from nixery.model.service_errors import SourceUnavailable
from nixery.model.source import Channel, Commit, PinnedSource
from nixery.watching.readiness import KEPT, Readiness

NIXPKGS = PinnedSource(Channel("nixos-unstable"), Commit("https://h/x", "0" * 40))


def first_look(clock: Clock, source: "list[Deferred[PinnedSource]]") -> FirstLook:
    """A look at sources that the test gives, by a Nix that is not asked."""
    nothing: Any = cast(Any, None)
    return FirstLook(clock, nothing, nothing, nothing, lambda: source.pop(0))


@pytest_twisted.ensureDeferred
async def test_until_all_is_well() -> None:
    """It is looked again until all is well; then there is an example of what the set has, and
    what an operator should know is logged."""
    clock = Clock()
    look = first_look(clock, [fail(SourceUnavailable("x", "no network")), succeed(NIXPKGS)])

    async def source() -> str:
        await look.offered()
        return "stale"

    readiness = Readiness(clock, {"source": source})
    assert look.example == USUAL
    waiting = Deferred.fromCoroutine(look.until(readiness))
    assert not waiting.called
    with capturedLogs() as captured:
        clock.advance(max(FIRST_WAIT, KEPT))
        assert await waiting == "shell/git/htop"
    said = [formatEvent(event) for event in captured]
    assert said == ["ready again: source", "source: stale"]
    assert look.example == "shell/git/htop"


@pytest_twisted.ensureDeferred
async def test_stop() -> None:
    """Stopped, it waits for nothing."""
    given_up: list[object] = []
    clock = Clock()
    look = first_look(clock, [Deferred(given_up.append)])
    asking = Deferred.fromCoroutine(look.offered())
    asking.addErrback(lambda _: None)
    await look.stop()
    assert len(given_up) == 1
