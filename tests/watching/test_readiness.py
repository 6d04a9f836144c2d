"""Whether the daemon can do its work."""

from collections.abc import Awaitable
from pathlib import Path

import pytest_twisted
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from nixery.model.package_errors import EvaluationFailed
from nixery.model.service_errors import StorageUnavailable
from nixery.watching.checks import source_check
from nixery.watching.readiness import KEPT, LIMIT, Condition, Readiness
from tests.builds.fakes import make_parts


class Thing:
    """Something to look at."""

    def __init__(self) -> None:
        self.looks = 0
        self.next: Awaitable[str] = succeed("")

    def look(self) -> Awaitable[str]:
        self.looks += 1
        return self.next


def seen(looking: Deferred[list[Condition]]) -> list[Condition]:
    conditions: list[list[Condition]] = []
    looking.addCallback(conditions.append)
    assert conditions, "it waits"
    return conditions[0]


def test_each_by_its_name() -> None:
    """What is well and what is not is told by name, with the reason; remarks are told too."""
    good, bad, stale = Thing(), Thing(), Thing()
    bad.next = fail(StorageUnavailable("no"))
    stale.next = succeed("stale")
    readiness = Readiness(Clock(), {"a": good.look, "b": bad.look, "c": stale.look})
    assert seen(readiness.look()) == [
        Condition("a", True),
        Condition("b", False, str(StorageUnavailable("no"))),
        Condition("c", True, "stale"),
    ]


def test_looked_at_once() -> None:
    """However many ask, and however often, a thing is looked at once in a while."""
    clock, thing = Clock(), Thing()
    gate: Deferred[str] = Deferred()
    thing.next = gate
    readiness = Readiness(clock, {"a": thing.look})
    asking = [readiness.look() for _ in range(3)]
    gate.callback("")
    assert [seen(each) for each in asking] == [[Condition("a", True)]] * 3
    thing.next = succeed("")
    clock.advance(KEPT - 0.1)
    assert seen(readiness.look())
    assert thing.looks == 1
    clock.advance(0.1)
    assert seen(readiness.look())
    assert thing.looks == 2


def test_no_answer() -> None:
    """What does not answer in time is not well, even if it can't be stopped."""
    clock, thing = Clock(), Thing()
    thing.next = Deferred(lambda _: None)
    asking = (readiness := Readiness(clock, {"a": thing.look})).look()
    clock.advance(LIMIT)
    assert seen(asking) == [Condition("a", False, f"no answer within {LIMIT:g} s")]
    thing.next = succeed("")
    clock.advance(KEPT)
    assert seen(readiness.look()) == [Condition("a", True)]


def test_stopping() -> None:
    """A daemon that stops is not ready, at once."""
    thing = Thing()
    readiness = Readiness(Clock(), {"a": thing.look})
    assert all(each.ok for each in seen(readiness.look()))
    readiness.stopping = True
    assert [each.name for each in seen(readiness.look()) if not each.ok] == ["stopping"]


def test_what_ends_with_the_daemon_is_no_fault() -> None:
    """What is not well while the daemon stops is not logged: it is stopped too."""
    thing = Thing()
    ending: Deferred[str] = Deferred()
    thing.next = ending
    readiness = Readiness(Clock(), {"a": thing.look})
    looking = readiness.look()
    with capturedLogs() as captured:
        readiness.stopping = True
        ending.errback(StorageUnavailable("no"))
    assert not seen(looking)[0].ok
    assert captured == []


@pytest_twisted.ensureDeferred
async def test_a_set_that_cannot_be_used(tmp_path: Path) -> None:
    """A source is not well until its set could be evaluated, and says why."""
    parts, clock, evaluated = make_parts(str(tmp_path)), Clock(), Thing()
    evaluated.next = fail(EvaluationFailed("there is no default.nix in it"))
    check = source_check(parts.builder.provenance, evaluated.look)
    readiness = Readiness(clock, {"source": check})
    (condition,) = await readiness.look()
    assert not condition.ok
    assert "there is no default.nix in it" in condition.remark
    evaluated.next = succeed("")
    clock.advance(KEPT)
    assert [condition.ok for condition in await readiness.look()] == [True]


@pytest_twisted.ensureDeferred
async def test_a_source_that_takes_long(tmp_path: Path) -> None:
    """A source that takes longer than a look is asked once, and is well when it has answered."""
    parts, clock = make_parts(str(tmp_path)), Clock()
    evaluated = Thing()
    answered: Deferred[None] = Deferred()
    parts.resolver.gate = answered
    readiness = Readiness(clock, {"source": source_check(parts.builder.provenance, evaluated.look)})
    for _ in range(3):
        looking = readiness.look()
        clock.advance(LIMIT)
        assert [condition.ok for condition in seen(looking)] == [False]
        clock.advance(KEPT)
    assert parts.resolver.asked == ["latest"]
    answered.callback(None)
    assert [condition.ok for condition in seen(readiness.look())] == [True]
