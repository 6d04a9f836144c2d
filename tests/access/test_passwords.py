"""Checking passwords: how many, in which order, and what is remembered."""

from collections.abc import Callable
from typing import Any

import bcrypt
import pytest
import pytest_twisted
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from nixery.access.htpasswd import Passwords
from nixery.access.passwords import KEPT, LIFETIME, MOST_WAITING, PasswordChecker
from nixery.model.errors import TooManyAttempts


class Pool:
    """A thread pool whose threads do nothing until they are told to."""

    def __init__(self) -> None:
        self.held: list[Callable[[], None]] = []
        self.most = 0
        self.done = 0

    def callInThreadWithCallback(
        self, on_result: Callable[[bool, Any], None], work: Callable[..., Any], *arguments: Any
    ) -> None:
        self.held.append(lambda: on_result(True, work(*arguments)))
        self.most = max(self.most, len(self.held))

    def run(self) -> None:
        """Do all that there is to do."""
        while self.held:
            self.done += 1
            self.held.pop(0)()


class Reactor(Clock):
    """Time, and threads that are no threads."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = Pool()

    def getThreadPool(self) -> Pool:
        return self.pool

    def callFromThread(self, call: Callable[..., Any], *arguments: Any) -> None:
        call(*arguments)


RIGHT = b"secret"


class World:
    """A checker that knows one user."""

    def __init__(self) -> None:
        self.reactor = Reactor()
        hidden = bcrypt.hashpw(RIGHT, bcrypt.gensalt(4))
        self.passwords = Passwords({"alice": hidden})
        self.checker = PasswordChecker(self.reactor, lambda: self.passwords)

    def check(
        self, password: bytes = RIGHT, client: str = "192.0.2.1", user: str = "alice"
    ) -> Deferred[bool]:
        return Deferred.fromCoroutine(self.checker.check(user, password, client))

    def checked(self, *arguments: Any, **named: Any) -> bool:
        """What comes of a check."""
        found: list[bool] = []
        self.check(*arguments, **named).addCallback(found.append)
        self.reactor.pool.run()
        return found[0]


@pytest.fixture
def world() -> World:
    """A checker that knows one user."""
    return World()


def test_right_and_wrong(world: World) -> None:
    """The right password is right; what bcrypt can't take is wrong."""
    assert world.checked()
    for wrong in (b"", b"x", b"secret\0", b"x" * 1000, b"\xff"):
        assert not world.checked(wrong)
        assert not world.checked(user="bob", password=wrong)
    assert not world.checked(user="bob")


def test_right_ones_are_remembered(world: World) -> None:
    """A password that was right is not checked again for a while; a wrong one is."""
    for _ in range(3):
        assert world.checked()
    assert world.reactor.pool.done == 1
    for _ in range(3):
        assert not world.checked(b"wrong")
    assert world.reactor.pool.done == 4
    world.reactor.advance(LIFETIME)
    assert world.checked()
    assert world.reactor.pool.done == 5


def test_what_is_remembered_is_bounded(world: World) -> None:
    """Memory does not grow with the number of users, and holds no password."""
    hidden = world.passwords.hidden["alice"]
    world.passwords = Passwords({f"user{number}": hidden for number in range(KEPT + 5)})
    for number in range(KEPT + 5):
        assert world.checked(user=f"user{number}")
    verified = world.checker._verified
    assert len(verified) == KEPT
    assert not any(RIGHT in mark for mark in verified)


def test_one_client_waits_for_itself(world: World) -> None:
    """A client's guesses are checked one after the other, and others go between them."""
    guesses = [world.check(b"%d" % number) for number in range(MOST_WAITING)]
    assert len(world.reactor.pool.held) == 1
    found: list[bool] = []
    world.check(client="192.0.2.2").addCallback(found.append)
    while not found:
        world.reactor.pool.held.pop(0)()
    assert sum(guess.called for guess in guesses) <= 2
    world.reactor.pool.run()
    assert all(guess.called for guess in guesses)


@pytest_twisted.ensureDeferred
async def test_too_many(world: World) -> None:
    """Of too many guesses, those beyond the limit are refused unseen; later ones are not."""
    for number in range(MOST_WAITING):
        world.check(b"%d" % number)
    with pytest.raises(TooManyAttempts):
        await world.check()
    world.reactor.pool.run()
    assert world.checked()
    assert world.checker._lines == {}


def test_the_same_at_once(world: World) -> None:
    """Requests with the same credentials wait for one check, as a pull's layers do."""
    waiting = [world.check() for _ in range(MOST_WAITING * 5)]
    world.reactor.pool.run()
    assert world.reactor.pool.done == 1
    assert all(each.result is True for each in waiting)


def test_leaving_frees_nothing(world: World) -> None:
    """A client that hangs up has its guesses checked all the same: it gains no turn by it."""
    left: list[object] = []
    for number in range(MOST_WAITING):
        guess = world.check(b"%d" % number)
        guess.addErrback(lambda failure: left.append(failure.trap(CancelledError)))
        guess.cancel()
    assert len(left) == MOST_WAITING
    assert world.checker._lines["192.0.2.1"].length == MOST_WAITING
    world.reactor.pool.run()
    assert world.reactor.pool.done == MOST_WAITING
