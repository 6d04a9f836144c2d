"""Waiting for several things at once."""

import pytest
import pytest_twisted
from twisted.internet.defer import CancelledError, Deferred

from nixery.builds.layers import gather


async def wait(gate: Deferred[int]) -> int:
    return await gate


@pytest_twisted.ensureDeferred
async def test_results_keep_their_order() -> None:
    """Results stand in the order of the tasks, whichever ends first."""
    gates: list[Deferred[int]] = [Deferred() for _ in range(3)]
    gathered = Deferred.fromCoroutine(gather(map(wait, gates)))
    for number in (2, 0, 1):
        assert not gathered.called
        gates[number].callback(number)
    assert await gathered == [0, 1, 2]
    assert await gather([]) == []


@pytest_twisted.ensureDeferred
async def test_errors_wait_for_the_others() -> None:
    """An error is raised when all have ended, so that nothing goes on unseen; it is the first
    task's that failed."""
    gates: list[Deferred[int]] = [Deferred() for _ in range(3)]
    gathered = Deferred.fromCoroutine(gather(map(wait, gates)))
    gates[2].errback(KeyError("later in order"))
    gates[1].errback(ValueError("no"))
    assert not gathered.called
    gates[0].callback(0)
    with pytest.raises(ValueError, match="no"):
        await gathered


@pytest_twisted.ensureDeferred
async def test_cancelling_reaches_all() -> None:
    """Cancelling cancels every task."""
    gates: list[Deferred[int]] = [Deferred() for _ in range(3)]
    gathered = Deferred.fromCoroutine(gather(map(wait, gates)))
    gathered.cancel()
    with pytest.raises(CancelledError):
        await gathered
    assert all(gate.called for gate in gates)
