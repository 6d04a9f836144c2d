"""What is tried until it succeeds."""

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from nixery.first_success import PAUSE, FirstSuccess
from nixery.model.service_errors import ShuttingDown


class Work:
    """Some work, whose end the test decides on."""

    def __init__(self) -> None:
        self.tries: list[Deferred[str]] = []

    def do(self) -> Deferred[str]:
        self.tries.append(Deferred())
        return self.tries[-1]


def ask(first: FirstSuccess[str]) -> Deferred[str]:
    return Deferred.fromCoroutine(first.get())


def value(asking: Deferred[str]) -> object:
    """What a Deferred has come to: its result, or the error."""
    found: list[object] = []
    asking.addBoth(found.append)
    assert found, "it waits"
    return getattr(found[0], "value", found[0])


def test_success_stays() -> None:
    """All who wait share a try, and its success is all that is ever needed."""
    work = Work()
    first = FirstSuccess(Clock(), work.do)
    both = [ask(first), ask(first)]
    assert first.known is None
    work.tries[0].callback("well")
    assert [value(each) for each in both] == ["well", "well"]
    assert first.known == "well"
    assert value(ask(first)) == "well"
    assert len(work.tries) == 1


def test_failure_passes() -> None:
    """A failure is told to all who ask in the next seconds; then it is tried again."""
    work, clock = Work(), Clock()
    first = FirstSuccess(clock, work.do)
    asking = ask(first)
    error = ValueError("no")
    work.tries[0].errback(error)
    assert value(asking) is error
    clock.advance(PAUSE - 1)
    assert value(ask(first)) is error
    assert len(work.tries) == 1
    clock.advance(1)
    asking = ask(first)
    work.tries[1].callback("well")
    assert value(asking) == "well"


def test_who_leaves_ends_nothing() -> None:
    """A try goes on when those who asked have left, and serves the next."""
    work = Work()
    first = FirstSuccess(Clock(), work.do)
    asking = ask(first)
    asking.cancel()
    assert isinstance(value(asking), CancelledError)
    work.tries[0].callback("well")
    assert value(ask(first)) == "well"


def test_stop() -> None:
    """Stopped, it gives up the try."""
    given_up: list[object] = []
    trying: Deferred[str] = Deferred(given_up.append)
    first = FirstSuccess(Clock(), lambda: trying)
    asking = ask(first)
    first.stop()
    assert given_up == [trying]
    assert isinstance(value(asking), ShuttingDown)
