"""Tasks that wait for slots, by rank."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred

from nixery.access.slots import Slots


class World:
    """Slots, and tasks that end when the test has them do."""

    def __init__(self, most: int) -> None:
        self.slots = Slots(most)
        self.running: list[tuple[int, Deferred[int]]] = []

    def run(self, rank: int) -> "Deferred[int]":
        def task() -> Deferred[int]:
            work: Deferred[int] = Deferred()
            self.running.append((rank, work))
            return work

        return Deferred.fromCoroutine(self.slots.run(rank, task))

    def end(self) -> int:
        """End the task that began first."""
        rank, work = self.running.pop(0)
        work.callback(rank)
        return rank


@given(st.lists(st.integers(-1, 5)), st.integers(1, 3))
def test_by_rank(ranks: list[int], most: int) -> None:
    """So many run at once, those that come first; those that wait go by rank."""
    world = World(most)
    waiting = [world.run(rank) for rank in ranks]
    ended: list[int] = []
    while world.running:
        assert len(world.running) == min(most, len(ranks) - len(ended))
        ended.append(world.end())
    assert ended == [*ranks[:most], *sorted(ranks[most:])]
    assert [each.result for each in waiting] == ranks


def test_tasks_that_fail() -> None:
    """A task that fails gives its slot back."""
    world = World(1)
    failing, after = world.run(0), world.run(0)
    world.running.pop(0)[1].errback(ValueError("broken"))
    failing.addErrback(lambda failure: failure.trap(ValueError))
    world.end()
    assert after.result == 0


def test_whoever_leaves() -> None:
    """Who leaves before its turn is passed over, and leaves the slot to others."""
    world = World(1)
    first, leaving, last = world.run(0), world.run(0), world.run(0)
    leaving.cancel()
    leaving.addErrback(lambda failure: failure.trap(CancelledError))
    world.end()
    world.end()
    assert (first.result, last.result) == (0, 0)
    again = world.run(7)
    world.end()
    assert again.result == 7


def test_many_that_wait() -> None:
    """Thousands that wait for tasks which end at once take no deep recursion."""
    world = World(1)
    holding = world.run(0)

    async def at_once() -> int:
        return 1

    ended = [Deferred.fromCoroutine(world.slots.run(1, at_once)) for _ in range(5000)]
    world.end()
    assert holding.result == 0
    assert all(each.result == 1 for each in ended)
