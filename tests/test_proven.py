"""What is tried until it succeeds."""

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from nixery.model.errors import ShuttingDown
from nixery.proven import PAUSE, Proven


class Work:
    """Some work, whose end the test decides on."""

    def __init__(self) -> None:
        self.tries: list[Deferred[str]] = []

    def do(self) -> Deferred[str]:
        self.tries.append(Deferred())
        return self.tries[-1]


def ask(proven: Proven[str]) -> Deferred[str]:
    return Deferred.fromCoroutine(proven.get())


def value(asking: Deferred[str]) -> object:
    """What a Deferred has come to: its result, or the error."""
    found: list[object] = []
    asking.addBoth(found.append)
    assert found, "it waits"
    return getattr(found[0], "value", found[0])


def test_success_stays() -> None:
    """All who wait share a try, and its success is all that is ever needed."""
    work = Work()
    proven = Proven(Clock(), work.do)
    both = [ask(proven), ask(proven)]
    assert proven.known is None
    work.tries[0].callback("well")
    assert [value(each) for each in both] == ["well", "well"]
    assert proven.known == "well"
    assert value(ask(proven)) == "well"
    assert len(work.tries) == 1


def test_failure_passes() -> None:
    """A failure is told to all who ask in the next seconds; then it is tried again."""
    work, clock = Work(), Clock()
    proven = Proven(clock, work.do)
    asking = ask(proven)
    error = ValueError("no")
    work.tries[0].errback(error)
    assert value(asking) is error
    clock.advance(PAUSE - 1)
    assert value(ask(proven)) is error
    assert len(work.tries) == 1
    clock.advance(1)
    asking = ask(proven)
    work.tries[1].callback("well")
    assert value(asking) == "well"


def test_who_leaves_ends_nothing() -> None:
    """A try goes on when those who asked have left, and serves the next."""
    work = Work()
    proven = Proven(Clock(), work.do)
    asking = ask(proven)
    asking.cancel()
    assert isinstance(value(asking), CancelledError)
    work.tries[0].callback("well")
    assert value(ask(proven)) == "well"


def test_stop() -> None:
    """Stopped, it gives up the try."""
    given_up: list[object] = []
    trying: Deferred[str] = Deferred(given_up.append)
    proven = Proven(Clock(), lambda: trying)
    asking = ask(proven)
    proven.stop()
    assert given_up == [trying]
    assert isinstance(value(asking), ShuttingDown)
