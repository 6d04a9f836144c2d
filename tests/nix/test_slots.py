"""Places that go round by client."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred

from nixery.nix.slots import Slots


class Work:
    """What somebody does in a place, until it is told to end.

    :ivar begun: names of those that have begun, in order.
    """

    def __init__(self, slots: Slots) -> None:
        self.begun: list[str] = []
        self.running: list[Deferred[None]] = []
        self._slots = slots

    def begin(self, client: str) -> "Deferred[Any]":
        async def work() -> None:
            async with self._slots.place(client):
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
    """Who asks for a hundred things delays another by one of them."""
    work = Work(Slots())
    for _ in range(100):
        work.begin("a")
    for client in "bcb":
        work.begin(client)
    for _ in range(7):
        work.end_one()
    assert "".join(work.begun) == "aabcabaa"
    work.end_all()


def test_no_more_than_there_are_places() -> None:
    """As many run as there are places, whoever they are of."""
    work = Work(Slots(2))
    for client in "aab":
        work.begin(client)
    assert work.begun == ["a", "a"]
    work.end_one()
    assert work.begun == ["a", "a", "b"]
    work.end_all()


def test_work_that_fails() -> None:
    """A place is free again when what was done in it failed."""
    work = Work(Slots())
    failing = work.begin("a")
    work.begin("b")
    failing.addErrback(lambda failure: failure.trap(ZeroDivisionError))
    work.running.pop(0).errback(ZeroDivisionError())
    assert work.begun == ["a", "b"]
    work.end_all()


@given(st.integers(1, 3), st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=20))
def test_nothing_is_left(at_once: int, users: list[tuple[str, bool]]) -> None:
    """When all have been served, or have left before, nobody waits and all places are free."""
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
