"""Warnings of what is tried again and again."""

from twisted.internet.task import Clock
from twisted.logger import Logger, capturedLogs, formatEvent

from nixery.repeats import EVERY, Repeats


def test_once() -> None:
    """The same is said once in a while, whatever it is wrong with, and then how often it was left
    out; what is new is said at once."""
    clock, log = Clock(), Logger()
    repeats = Repeats(clock.seconds)

    def warned(what: str, reason: str) -> list[str]:
        with capturedLogs() as captured:
            repeats.warn(log, reason, "{what}: {reason}", what=what, reason=reason)
        return [formatEvent(event) for event in captured]

    assert warned("a", "down") == ["a: down"]
    assert warned("a", "down") == []
    assert warned("b", "down") == []
    assert warned("a", "full") == ["a: full"]
    clock.advance(EVERY)
    assert warned("b", "down") == ["b: down (2 times since)"]
    assert warned("b", "down") == []
    clock.advance(EVERY)
    assert warned("a", "full") == ["a: full"]


def test_bounded() -> None:
    """However many things are wrong, few are remembered."""
    repeats = Repeats(Clock().seconds)
    for number in range(1000):
        repeats.warn(Logger(), str(number), "{number}", number=number)
    assert len(repeats._said) <= 100
