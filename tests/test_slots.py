"""Slots, by rank and by client, and turns by key."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from nixery.slots import Slot, Slots, Turns


class Work:
    """Tasks that hold slots until they are told to end.

    :ivar begun: their clients, in the order in which they have begun.
    """

    def __init__(self, slots: Slots) -> None:
        self.begun: list[str] = []
        self.running: list[Deferred[None]] = []
        self._slots = slots

    def begin(self, client: str) -> "Deferred[Any]":
        async def work() -> None:
            with await self._slots.take(client):
                self.begun.append(client)
                until: Deferred[None] = Deferred()
                self.running.append(until)
                await until

        return Deferred.fromCoroutine(work())

    def end_one(self) -> None:
        self.running.pop(0).callback(None)

    def end_all(self) -> None:
        """End all that runs, and what begins then; what was cancelled has ended."""
        while self.running:
            until = self.running.pop(0)
            if not until.called:
                until.callback(None)


def test_clients_take_turns() -> None:
    """A client with a hundred tasks delays another by one task."""
    work = Work(Slots())
    for _ in range(100):
        work.begin("a")
    for client in "bcb":
        work.begin(client)
    for _ in range(7):
        work.end_one()
    assert "".join(work.begun) == "aabcabaa"
    work.end_all()


def test_no_more_than_there_are_slots() -> None:
    """As many run as there are slots, whoever they are of."""
    work = Work(Slots(2))
    for client in "aab":
        work.begin(client)
    assert work.begun == ["a", "a"]
    work.end_one()
    assert work.begun == ["a", "a", "b"]
    work.end_all()


def test_work_that_fails() -> None:
    """A slot is free again when what was done in it failed."""
    work = Work(Slots())
    failing = work.begin("a")
    work.begin("b")
    failing.addErrback(lambda failure: failure.trap(ZeroDivisionError))
    work.running.pop(0).errback(ZeroDivisionError())
    assert work.begun == ["a", "b"]
    work.end_all()


@given(st.integers(1, 3), st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=20))
def test_nothing_is_left(at_once: int, users: list[tuple[str, bool]]) -> None:
    """When all have been served, or have left before, nobody waits and all slots are free."""
    slots = Slots(at_once)
    work = Work(slots)
    asked = [(work.begin(client), leaves) for client, leaves in users]
    for deferred, leaves in asked:
        deferred.addErrback(lambda failure: failure.trap(CancelledError))
        if leaves and not deferred.called:
            deferred.cancel()
    work.end_all()
    assert len(slots) == 0
    again = Work(slots)
    for _ in range(at_once + 1):
        again.begin("d")
    assert len(again.begun) == at_once
    again.end_all()


class World:
    """Ranked slots, and tasks that end when the test has them do."""

    def __init__(self, most: int) -> None:
        self.slots = Slots(most)
        self.running: list[tuple[int, Deferred[int]]] = []

    def run(self, rank: int) -> "Deferred[int]":
        async def task() -> int:
            with await self.slots.take(rank=rank):
                work: Deferred[int] = Deferred()
                self.running.append((rank, work))
                return await work

        return Deferred.fromCoroutine(task())

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
    """A task that leaves before its turn is passed over, and leaves the slot to others."""
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
        with await world.slots.take(rank=1):
            return 1

    ended = [Deferred.fromCoroutine(at_once()) for _ in range(5000)]
    world.end()
    assert holding.result == 0
    assert all(each.result == 1 for each in ended)


def take(turns: Turns[str], key: str) -> "Deferred[Slot]":
    return Deferred.fromCoroutine(turns.take(key))


def test_one_at_a_time_for_each_key() -> None:
    """The second has its turn when the first has ended it, however often that is said; other keys
    wait for nobody."""
    turns: Turns[str] = Turns()
    had: list[Slot] = []
    first = take(turns, "a")
    take(turns, "a").addCallback(had.append)
    take(turns, "a").addCallback(had.append)
    assert take(turns, "b").called
    turn = first.result
    assert isinstance(turn, Slot)
    assert had == []
    assert (turns.users("a"), turns.users("b"), turns.users("c")) == (3, 1, 0)
    turn.release()
    turn.release()
    assert len(had) == 1


@given(st.lists(st.tuples(st.sampled_from("ab"), st.booleans()), max_size=20))
def test_no_turn_is_left(users: list[tuple[str, bool]]) -> None:
    """When all have had their turns, or have left before them, nothing is remembered."""
    turns: Turns[str] = Turns()
    waiting = [(take(turns, key), leaves) for key, leaves in users]
    for turn, leaves in waiting:
        if leaves and not turn.called:
            turn.addErrback(Failure.trap, Exception)
            turn.cancel()
    for turn, _ in waiting:
        turn.addCallback(lambda had: had.release() if isinstance(had, Slot) else None)
    assert len(turns) == 0
