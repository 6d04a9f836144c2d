"""Wrong passwords: for how long they count, and how many are remembered."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nixery.access.attempts import (
    FORGOTTEN,
    FREE,
    LONGEST,
    LONGEST_FOR_USER,
    REMEMBERED,
    Attempts,
)


class World:
    """Attempts at a time of the test's own."""

    def __init__(self) -> None:
        self.time = 1000.0
        self.attempts = Attempts(lambda: self.time)


@pytest.fixture
def world() -> World:
    """Attempts at a time of the test's own."""
    return World()


@given(st.integers(0, 10_000))
def test_delays_grow(count: int) -> None:
    """The first wrong passwords cost nothing, each other one as much as the one before or more,
    up to a bound, which is a small one where others may have guessed."""
    attempts = Attempts(lambda: 0.0)
    before = 0.0
    for number in range(min(count, 100)):
        attempts.wrong("client", "user")
        wait, of_user = attempts.wait("client"), attempts.wait_for_user("user")
        assert (wait == 0) == (number < FREE)
        assert before <= wait <= LONGEST
        assert of_user == min(wait, LONGEST_FOR_USER)
        before = wait
    assert attempts.wait("other") == attempts.wait_for_user("other") == 0


def test_a_wait_ends(world: World) -> None:
    """What a client waits for is the time since its last wrong password."""
    for _ in range(FREE + 4):
        world.attempts.wrong("client", "user")
    whole = world.attempts.wait("client")
    world.time += whole / 4
    assert world.attempts.wait("client") == pytest.approx(whole * 3 / 4)
    world.time += whole
    assert world.attempts.wait("client") == 0
    assert world.attempts.failures("client") == FREE + 4
    world.attempts.wrong("client", "user")
    assert world.attempts.wait("client") == 2 * whole


def test_forgotten(world: World) -> None:
    """Wrong passwords are forgotten after a while, and a client's when it has a right one; those
    for a user are not then."""
    for _ in range(FREE + 4):
        world.attempts.wrong("client", "user")
    world.attempts.right("client")
    assert world.attempts.failures("client") == world.attempts.wait("client") == 0
    assert world.attempts.wait_for_user("user") > 0
    world.time += FORGOTTEN
    assert world.attempts.wait_for_user("user") == 0


def test_what_is_remembered_is_bounded(world: World) -> None:
    """However many clients guess, and whatever they make up, little is remembered of it."""
    for number in range(REMEMBERED + 10):
        world.attempts.wrong(f"client {number}", f"{number} \ud800" * 2)
    clients, users = world.attempts._clients._noted, world.attempts._users._noted
    assert len(clients) == len(users) == REMEMBERED
    assert max(map(len, users)) == 32
    assert world.attempts.failures("client 0") == 0
    assert world.attempts.failures(f"client {REMEMBERED}") == 1
