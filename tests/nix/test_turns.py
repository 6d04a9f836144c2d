"""Turns."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from nixery.nix.turns import Turn, Turns


def take(turns: Turns, key: str) -> "Deferred[Turn]":
    return Deferred.fromCoroutine(turns.take(key))


def test_one_at_a_time() -> None:
    """The second has its turn when the first has ended it, however often that is said; other keys
    wait for nobody."""
    turns = Turns()
    had: list[Turn] = []
    first = take(turns, "a")
    take(turns, "a").addCallback(had.append)
    take(turns, "a").addCallback(had.append)
    assert take(turns, "b").called
    turn = first.result
    assert isinstance(turn, Turn)
    assert had == []
    turn.end()
    turn.end()
    assert len(had) == 1


@given(st.lists(st.tuples(st.sampled_from("ab"), st.booleans()), max_size=20))
def test_nothing_is_left(users: list[tuple[str, bool]]) -> None:
    """When all have had their turns, or have left before them, nothing is remembered."""
    turns = Turns()
    waiting = [(take(turns, key), leaves) for key, leaves in users]
    for turn, leaves in waiting:
        if leaves and not turn.called:
            turn.addErrback(Failure.trap, Exception)
            turn.cancel()
    for turn, _ in waiting:
        turn.addCallback(lambda had: had.end() if isinstance(had, Turn) else None)
    assert len(turns) == 0
