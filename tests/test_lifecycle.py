"""The order of starts and stops, and what is done again and again."""

from collections.abc import Callable

import pytest
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.python.failure import Failure

from nixery.lifecycle import Component, InOrder, Timer


class World:
    """Services that take their time, and a note of what was done.

    :ivar gates: by what is done: the test says when it is.
    """

    def __init__(self) -> None:
        self.done: list[str] = []
        self.gates: dict[str, Deferred[None]] = {}

    def part(self, name: str) -> Component:
        return Component(self._step(f"start {name}"), self._step(f"stop {name}"))

    def _step(self, what: str) -> Callable[[], Deferred[None] | None]:
        def step() -> Deferred[None] | None:
            self.done.append(what)
            return self.gates.get(what)

        return step


def error_of(deferred: Deferred[None]) -> BaseException | None:
    """What a Deferred has failed with; it must have fired."""
    results: list[object] = []
    deferred.addBoth(results.append)
    (result,) = results
    return result.value if isinstance(result, Failure) else None


def test_one_after_the_other() -> None:
    """Each is started when those before it have, and stopped, in reverse, when those behind it
    have."""
    world = World()
    for what in ("start a", "stop b"):
        world.gates[what] = Deferred()
    services = InOrder(world.part("a"), Service(), world.part("b"))
    starting = services.startService()
    assert world.done == ["start a"]
    world.gates["start a"].callback(None)
    assert error_of(starting) is None
    assert world.done == ["start a", "start b"]
    assert all(each.running for each in services)
    stopped: list[object] = []
    services.stopService().addCallback(stopped.append)
    assert (world.done[2:], stopped) == (["stop b"], [])
    world.gates["stop b"].callback(None)
    assert len(stopped) == 1
    assert world.done[2:] == ["stop b", "stop a"]
    assert not any(each.running for each in services)


def test_a_start_that_fails() -> None:
    """The failure is told at once; what was started before, and what failed, is stopped in reverse
    order; what comes behind it is neither started nor stopped."""
    world = World()
    world.gates["start b"] = fail(OSError("no"))
    world.gates["stop a"] = Deferred()
    services = InOrder(*map(world.part, "abc"))
    assert isinstance(error_of(services.startService()), OSError)
    assert world.done == ["start a", "start b", "stop b", "stop a"]
    stopped: list[object] = []
    services.stopService().addCallback(stopped.append)
    assert stopped == []
    world.gates["stop a"].callback(None)
    assert len(stopped) == 1
    assert len(world.done) == 4


@pytest.mark.parametrize("is_cancelled", [True, False])
def test_stopped_while_it_starts(is_cancelled: bool) -> None:
    """A start that is given up, or overtaken by a stop, goes no further; what was started is
    stopped, once, and who stops waits for that."""
    world = World()
    world.gates["start b"] = Deferred()
    world.gates["stop a"] = Deferred()
    services = InOrder(*map(world.part, "abc"))
    starting = services.startService()
    if is_cancelled:
        starting.cancel()
    stopped: list[object] = []
    services.stopService().addCallback(stopped.append)
    assert isinstance(error_of(starting), CancelledError)
    assert (world.done, stopped) == (["start a", "start b", "stop b", "stop a"], [])
    world.gates["stop a"].callback(None)
    assert len(stopped) == 1
    assert len(world.done) == 4


def test_a_stop_that_fails() -> None:
    """A part that can't be stopped is logged, and keeps no other from being so."""
    world = World()
    world.gates["stop b"] = fail(OSError("no"))
    services = InOrder(*map(world.part, "ab"))
    services.startService()
    with capturedLogs() as captured:
        assert error_of(services.stopService()) is None
    assert world.done[2:] == ["stop b", "stop a"]
    assert [event["log_failure"].type for event in captured] == [OSError]


class Calls:
    """A function that is called again and again.

    :ivar result: what it gives next.
    """

    def __init__(self) -> None:
        self.count = 0
        self.result: Deferred[None] | None = None

    def call(self) -> Deferred[None] | None:
        self.count += 1
        return self.result


@pytest.mark.parametrize("now", [True, False])
def test_again_and_again(now: bool) -> None:
    """It is called at the start, or an interval later, and after each interval, until it is
    stopped; then it can be started again."""
    clock, calls = Clock(), Calls()
    timer = Timer(clock, 10, calls.call, now)
    for _ in range(2):
        calls.count = 0
        timer.startService()
        assert calls.count == now
        clock.pump([10, 10])
        assert calls.count == 2 + now
        assert error_of(timer.stopService()) is None
        assert not timer.running
        assert clock.getDelayedCalls() == []


def test_a_call_that_fails() -> None:
    """A call that fails is logged, and those that follow are made all the same."""
    clock, calls = Clock(), Calls()
    timer = Timer(clock, 10, calls.call)
    calls.result = fail(OSError("no"))
    with capturedLogs() as captured:
        timer.startService()
    assert formatEvent(captured[0]) == "a periodic task failed; it is repeated"
    calls.result = None
    clock.advance(10)
    assert calls.count == 2
    timer.stopService()


def test_a_call_that_does_not_end() -> None:
    """A call that takes long is not made a second time meanwhile; a stop gives it up, and waits
    no longer."""
    clock, calls = Clock(), Calls()
    calls.result = Deferred()
    timer = Timer(clock, 10, calls.call)
    timer.startService()
    clock.pump([10, 10])
    assert calls.count == 1
    with capturedLogs() as captured:
        assert error_of(timer.stopService()) is None
    assert captured == []
    assert not timer.running


def test_never_started() -> None:
    """What was never started can be stopped."""
    assert error_of(Timer(Clock(), 10, lambda: None).stopService()) is None
    assert error_of(InOrder().stopService()) is None
