"""Checking passwords: how many, in which order, how fast, and what is remembered."""

from collections.abc import Callable
from typing import Any

import bcrypt
import pytest
import pytest_twisted
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from nixery.access.attempts import FREE, LONGEST, LONGEST_FOR_USER
from nixery.access.htpasswd import Passwords, cost_of
from nixery.access.passwords import LIFETIME, MOST_WAITING, PATIENCE, PasswordChecker, compare
from nixery.model.request_errors import TooManyAttempts


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
        reactor: Any = self.reactor
        self.checker = PasswordChecker(reactor, lambda: self.passwords, kept=20)

        self.slots = self.checker._slots._slots

    def check(
        self, password: bytes = RIGHT, client: str = "192.0.2.1", user: str = "alice"
    ) -> Deferred[bool]:
        return Deferred.fromCoroutine(self.checker.check(user, password, client))

    def checked(self, *arguments: Any, **named: Any) -> bool:
        """What comes of a check."""
        found: list[bool] = []
        self.check(*arguments, **named).addCallback(found.append)
        self.run()
        return found[0]

    def run(self) -> None:
        """Do all that there is to do, however long it waits."""
        self.reactor.pool.run()
        while self.reactor.getDelayedCalls():
            self.reactor.advance(
                self.reactor.getDelayedCalls()[0].getTime() - self.reactor.seconds()
            )
            self.reactor.pool.run()

    def refused(self, *arguments: Any, **named: Any) -> int:
        """The seconds for which a check is refused, at once; 0 if it is not."""
        found: list[Any] = []
        self.check(*arguments, **named).addBoth(found.append)
        if not found or isinstance(found[0], bool):
            self.run()
            return 0
        error = found[0].value
        assert isinstance(error, TooManyAttempts)
        return error.seconds

    def guess(self, count: int, client: str = "192.0.2.1", user: str = "alice") -> None:
        """Have wrong passwords checked, as fast as it goes."""
        for number in range(count):
            while seconds := self.refused(b"guess %d" % number, client, user):
                self.reactor.advance(seconds)


@pytest.fixture
def world() -> World:
    """A checker that knows one user."""
    return World()


def test_right_and_wrong(world: World) -> None:
    """The right password is right; what bcrypt can't take is wrong."""
    assert world.checked()
    for number, wrong in enumerate((b"", b"x", b"secret\0", b"x" * 1000, b"\xff")):
        for user in ("alice", "bob"):
            assert not world.checked(wrong, f"192.0.2.{number}", user)
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
    assert world.checked()
    assert world.reactor.pool.done == 5


def test_what_is_remembered_is_bounded(world: World) -> None:
    """Memory does not grow with the number of users, and holds no password."""
    hidden = world.passwords.hidden["alice"]
    world.passwords = Passwords({f"user{number}": hidden for number in range(25)})
    for number in range(25):
        assert world.checked(user=f"user{number}")
    verified = world.checker._verified._noted
    assert len(verified) == 20
    assert not any(RIGHT in mark for mark, _ in verified.items())


def test_one_client_waits_for_itself(world: World) -> None:
    """A client's guesses are checked one after the other, and others go between them."""
    guesses = [world.check(b"%d" % number) for number in range(MOST_WAITING)]
    assert len(world.reactor.pool.held) == 1
    found: list[bool] = []
    world.check(client="192.0.2.2").addCallback(found.append)
    while not found:
        world.reactor.pool.held.pop(0)()
    assert sum(guess.called for guess in guesses) <= 2
    world.run()
    assert all(guess.called for guess in guesses)


@pytest_twisted.ensureDeferred
async def test_too_many(world: World) -> None:
    """Of too many guesses, those beyond the limit are refused unseen; later ones are not."""
    for number in range(MOST_WAITING):
        world.check(b"%d" % number)
    with pytest.raises(TooManyAttempts):
        await world.check()
    world.run()
    world.reactor.advance(LONGEST)
    assert world.checked()
    assert len(world.checker._turns) == 0


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
    assert world.checker._turns.users("192.0.2.1") == MOST_WAITING
    world.run()
    assert world.reactor.pool.done == MOST_WAITING


# --- those who guess ------------------------------------------------------------------------


def test_guessing_slows_down(world: World) -> None:
    """Of 500 wrong passwords in ten seconds, the first few are checked, the next ones after a
    wait, and the others are refused at once, for ever longer."""
    refused: list[int] = []

    def note(failure: Failure) -> None:
        assert isinstance(failure.value, TooManyAttempts)
        refused.append(failure.value.seconds)

    for number in range(500):
        world.check(b"%d" % number).addErrback(note)
        world.reactor.pool.run()
        world.reactor.advance(0.02)
        world.reactor.pool.run()
    assert FREE < world.reactor.pool.done < FREE + 6
    assert len(refused) > 480
    assert PATIENCE < max(refused) <= LONGEST
    world.run()
    before = 0
    for _ in range(10):
        world.guess(1)
        seconds = world.refused(b"another")
        assert before < seconds <= LONGEST or seconds == LONGEST
        before = seconds
    assert before == LONGEST


def test_guessing_hurts_nobody_else(world: World) -> None:
    """Whoever has a right password is let in, from another network within seconds, while others
    guess that user's; and at once if it has been right before, even from the guesser's network."""
    assert world.checked()
    for number in range(100):
        world.guess(FREE, client=f"198.51.100.{number}")
    world.reactor.advance(LIFETIME)
    world.guess(FREE + 5, client="192.0.2.1")
    assert world.refused(b"a guess", client="192.0.2.1")
    before = world.reactor.seconds()
    assert world.checked(client="192.0.2.1")
    assert world.reactor.seconds() == before
    other = world.passwords.hidden["alice"]
    world.passwords = Passwords({"alice": bcrypt.hashpw(RIGHT, bcrypt.gensalt(4)), "bob": other})
    assert world.checked(client="203.0.113.1")
    assert before < world.reactor.seconds() <= before + LONGEST_FOR_USER
    before = world.reactor.seconds()
    assert world.checked(client="203.0.113.2", user="bob")
    assert world.reactor.seconds() == before


def test_guessing_users(world: World) -> None:
    """Guesses slow a client down whichever users they are for, and those for a user who is not
    there as those for one who is."""
    for number in range(FREE + 5):
        world.guess(1, user=f"user{number}")
    assert world.refused(b"another", user="somebody")
    waits = []
    for user in ("alice", "nobody"):
        guessed = World()
        for number in range(20):
            guessed.guess(1, client=f"198.51.100.{number}", user=user)
        before = guessed.reactor.seconds()
        assert not guessed.checked(b"wrong", "203.0.113.1", user)
        waits.append(guessed.reactor.seconds() - before)
    assert waits[0] == waits[1] > 0


def test_whoever_mistypes(world: World) -> None:
    """Some mistyped passwords cost nothing, and are forgotten once the right one is given."""
    for again in range(3):
        for number in range(FREE):
            assert not world.checked(b"typo", user=f"bob {number} {again}")
        world.passwords = Passwords({"alice": bcrypt.hashpw(RIGHT, bcrypt.gensalt(4))})
        assert world.checked()
    assert world.reactor.seconds() == 0


def test_those_who_guess_go_last(world: World) -> None:
    """Where more is to be checked than can be at once, those with the fewest wrong passwords go
    first, and before them those who were right before."""
    assert world.checked(client="192.0.2.9")
    world.reactor.advance(LIFETIME)
    for number in range(4):
        world.guess(number, client=f"198.51.100.{number}")
    order: list[str] = []

    def note(_: bool, who: str) -> None:
        order.append(who)

    held = [world.check(b"first", f"203.0.113.{number}", "x") for number in range(world.slots)]
    for number in (3, 1, 2):
        client = f"198.51.100.{number}"
        world.check(b"next %d" % number, client, "y").addCallback(note, client)
    world.check().addCallback(note, "right before")
    world.run()
    assert order == ["right before", *(f"198.51.100.{number}" for number in (1, 2, 3))]
    assert all(each.called for each in held)


@pytest.mark.parametrize("cost", [4, 5, 7, 8])
def test_equal_time(monkeypatch: pytest.MonkeyPatch, cost: int) -> None:
    """A wrong password costs the same whoever's it is, one's with a cheap entry or nobody's: as
    much bcrypt as the dearest entry takes."""
    work: list[int] = []
    real = bcrypt.checkpw

    def counting(password: bytes, hidden: bytes) -> bool:
        work.append(2 ** cost_of(hidden))
        return real(password, hidden)

    monkeypatch.setattr(bcrypt, "checkpw", counting)
    for hidden in (bcrypt.hashpw(RIGHT, bcrypt.gensalt(cost)), None):
        work.clear()
        assert not compare(hidden, 8, b"wrong")
        assert sum(work) == 2**8
        work.clear()
        assert compare(hidden, 8, RIGHT) == (hidden is not None)
