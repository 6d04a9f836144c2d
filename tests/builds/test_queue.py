"""Turns for builds."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError
from twisted.python.failure import Failure

from nixery.builds.queue import BuildQueue, Ticket
from nixery.model.errors import QueueFull


class Crowd:
    """Clients of a queue; remembers whose turn came in which order, and who was sent away."""

    def __init__(self, at_once: int, waiting: int) -> None:
        self.queue = BuildQueue(at_once, waiting)
        self.turns: list[str] = []
        self.displaced: list[str] = []
        self.told: list[str] = []

    def ask(self, client: str, *others: str) -> Ticket:
        ticket = self.queue.enter(client)
        for other in others:
            self.queue.join(ticket, other)
        ticket.turn.addCallbacks(
            lambda _: self.turns.append(client), self._away, errbackArgs=(client,)
        )
        return ticket

    def end(self, count: int = 1) -> None:
        for _ in range(count):
            self.queue.end()

    def _away(self, failure: Failure, client: str) -> None:
        failure.trap(QueueFull, CancelledError)
        self.displaced.append(client)
        self.told.append(failure.getErrorMessage())


def test_so_many_at_once() -> None:
    """As many have their turn as may; the next one's comes when one of these ends."""
    crowd = Crowd(2, 10)
    for client in "abc":
        crowd.ask(client)
    assert (crowd.turns, crowd.queue.running, crowd.queue.waiting) == (["a", "b"], 2, 1)
    crowd.end()
    assert (crowd.turns, crowd.queue.running, crowd.queue.waiting) == (["a", "b", "c"], 2, 0)
    crowd.end(2)
    assert (crowd.queue.running, crowd.queue.waiting) == (0, 0)


def test_clients_in_turn() -> None:
    """Who asks for much does not keep those waiting who ask for little; each one's own come in
    order."""
    crowd = Crowd(1, 100)
    for _ in range(5):
        crowd.ask("greedy")
    crowd.ask("modest")
    crowd.ask("frugal")
    crowd.end(6)
    assert crowd.turns == ["greedy", "greedy", "modest", "frugal", "greedy", "greedy", "greedy"]


def test_a_build_of_several_clients() -> None:
    """A build that another client asks for too comes when the turn of either does."""
    crowd = Crowd(1, 100)
    first = crowd.ask("greedy")
    assert first.turn.called
    for _ in range(3):
        crowd.ask("greedy")
    crowd.queue.join(last := crowd.ask("greedy"), "modest")
    crowd.end(2)
    assert last.turn.called
    crowd.end(2)
    assert (crowd.queue.waiting, crowd.queue.running) == (0, 1)


def test_a_full_queue() -> None:
    """Beyond the most that may wait, who asks is sent away and nobody else is hurt."""
    crowd = Crowd(1, 2)
    for _ in range(3):
        crowd.ask("a")
    with pytest.raises(QueueFull) as caught:
        crowd.ask("a")
    assert str(caught.value).startswith("2 images wait")
    assert crowd.displaced == []
    crowd.end(3)
    assert crowd.turns == ["a", "a", "a"]


def test_room_for_others() -> None:
    """In a full queue, a client with fewer builds takes the newest place of the greediest."""
    crowd = Crowd(1, 4)
    for _ in range(5):
        newest = crowd.ask("greedy")
    crowd.ask("modest")
    assert crowd.displaced == ["greedy"]
    assert crowd.told[0].startswith("4 images wait")
    assert newest.turn.called
    crowd.ask("modest")
    assert crowd.displaced == ["greedy", "greedy"]
    with pytest.raises(QueueFull):  # both have two
        crowd.ask("modest")


def test_no_room_to_wait() -> None:
    """Where nothing may wait, what can't begin at once is sent away."""
    crowd = Crowd(1, 0)
    crowd.ask("a")
    with pytest.raises(QueueFull):
        crowd.ask("b")


def test_leaving() -> None:
    """A build that is given up while it waits leaves its place to others."""
    crowd = Crowd(1, 1)
    crowd.ask("a")
    leaving = crowd.ask("a", "b")
    leaving.turn.cancel()
    assert crowd.queue.waiting == 0
    crowd.ask("c")
    crowd.end()
    assert crowd.turns == ["a", "c"]


@given(
    st.integers(1, 3),
    st.integers(0, 6),
    st.lists(st.one_of(st.sampled_from("abcd"), st.none()), max_size=60),
)
def test_nobody_is_lost(at_once: int, waiting: int, steps: list[str | None]) -> None:
    """Whatever is asked and ends when, every build has its turn or is told that it has none, and
    the bounds hold."""
    crowd, asked = Crowd(at_once, waiting), Counter[str]()
    for step in steps:
        if step is not None:
            try:
                crowd.ask(step)
                asked[step] += 1
            except QueueFull:
                assert crowd.queue.waiting == waiting
        elif crowd.queue.running:
            crowd.end()
        assert crowd.queue.running <= at_once
        assert crowd.queue.waiting <= waiting
        assert not crowd.queue.waiting or crowd.queue.running == at_once
    while crowd.queue.running:
        crowd.end()
    assert Counter(crowd.turns) + Counter(crowd.displaced) == asked
