"""One running task for each key."""

import pytest
import pytest_twisted
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred

from nixery.coalesce import Coalescer
from nixery.model.service_errors import ShuttingDown


async def wait(gate: Deferred[str]) -> str:
    return await gate


@given(st.lists(st.tuples(st.sampled_from(["join", "leave", "finish"]), st.integers(0, 2))))
def test_any_schedule(steps: list[tuple[str, int]]) -> None:
    """Whichever waiters come and go: one task runs for a key, all who stay get its result, and a
    task ends only by itself."""
    ours: Coalescer[int, str] = Coalescer()
    gates: dict[int, Deferred[str]] = {}
    waiting: dict[int, list[Deferred[str]]] = {0: [], 1: [], 2: []}
    for step, key in steps:
        if step == "join":
            gate: Deferred[str] = Deferred()
            waiting[key].append(ours.join(key, lambda gate=gate: wait(gate)))  # type: ignore[misc]
            gates.setdefault(key, gate)
        elif step == "leave" and waiting[key]:
            left = waiting[key].pop()
            left.cancel()
            left.addErrback(lambda failure: failure.trap(CancelledError))
        elif step == "finish" and key in gates:
            gates.pop(key).callback("done")
            assert [each.result for each in waiting[key]] == ["done"] * len(waiting[key])
            waiting[key].clear()
        assert len(ours) == len(gates)
        assert not any(each.called for some in waiting.values() for each in some)


def test_tasks_start_at_once() -> None:
    """A task that is not running yet has begun when ``join`` returns; one that runs is not begun
    again. A task that can't begin fails those who wait, not the call."""
    ours: Coalescer[str, str] = Coalescer()
    begun: list[str] = []
    gate: Deferred[str] = Deferred()

    def start(name: str) -> Deferred[str]:
        begun.append(name)
        return gate

    ours.join("x", lambda: start("first"))
    assert begun == ["first"]
    ours.join("x", lambda: start("second"))
    assert begun == ["first"]

    def fail() -> Deferred[str]:
        raise ValueError("it can't begin")

    failed = ours.join("y", fail)
    failed.addErrback(lambda failure: failure.trap(ValueError))
    assert failed.called
    assert len(ours) == 1


@pytest_twisted.ensureDeferred
async def test_a_failed_task_is_forgotten() -> None:
    """A failure reaches all who wait, and the next one starts anew."""
    ours: Coalescer[str, str] = Coalescer()
    gate: Deferred[str] = Deferred()
    waiting = [ours.join("x", lambda: wait(gate)) for _ in range(2)]
    gate.errback(ValueError("no"))
    for each in waiting:
        with pytest.raises(ValueError, match="no"):
            await each
    done: Deferred[str] = Deferred()
    done.callback("yes")
    assert await ours.join("x", lambda: wait(done)) == "yes"


@pytest_twisted.ensureDeferred
async def test_one_waiter_may_cancel_another() -> None:
    """A waiter may cancel another one when it gets the result, without harm to the rest."""
    ours: Coalescer[str, str] = Coalescer()
    gate: Deferred[str] = Deferred()
    first = ours.join("x", lambda: wait(gate))
    second = ours.join("x", lambda: wait(gate))
    third = ours.join("x", lambda: wait(gate))
    first.addCallback(lambda _: second.cancel())
    gate.callback("done")
    with pytest.raises(CancelledError):
        await second
    assert await third == "done"


@pytest_twisted.ensureDeferred
async def test_stop_waits_for_the_end() -> None:
    """``stop`` fires when the last task has ended, and not before."""
    ours: Coalescer[str, str] = Coalescer()
    ending: Deferred[None] = Deferred()

    async def task() -> str:
        try:
            return await wait(Deferred())
        finally:
            await ending

    waiting = ours.join("x", task)
    stopped = ours.stop()
    assert not stopped.called
    ending.callback(None)
    await stopped
    with pytest.raises(ShuttingDown):
        await waiting
    with pytest.raises(ShuttingDown):
        ours.join("y", task)
