"""What was found out last, and work that is done once."""

from collections import OrderedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from nixery.storage.joining import Joining
from nixery.storage.recent import Recent


def test_age() -> None:
    """What was noted is known for as long as one asks for; for no time, never."""
    clock = Clock()
    recent: Recent[str, str] = Recent(clock.seconds, 10)
    recent.put("key", "value")
    assert recent.get("key", 0) is None
    clock.advance(5)
    assert recent.get("key", 5.1) == "value"
    assert recent.get("key", 5) is None
    assert recent.get("key") == "value"
    recent.forget("key")
    recent.forget("key")
    assert recent.get("key") is None


@given(st.lists(st.tuples(st.integers(0, 5), st.binary(max_size=12), st.booleans()), max_size=40))
def test_bound(steps: list[tuple[int, bytes, bool]]) -> None:
    """Those values are kept that were noted or used last, as many as fit."""
    recent: Recent[int, bytes] = Recent(Clock().seconds, 20, len)
    model: OrderedDict[int, bytes] = OrderedDict()
    for key, value, is_look in steps:
        if is_look:
            assert recent.get(key) == model.get(key)
            if key in model:
                model.move_to_end(key)
        else:
            recent.put(key, value)
            model.pop(key, None)
            model[key] = value
            while sum(map(len, model.values())) > 20:
                model.popitem(last=False)
    assert {key: recent.get(key) for key in range(6)} == {key: model.get(key) for key in range(6)}


def test_joining() -> None:
    """Work is begun once for all who wait for its key, and anew when it is over; who leaves,
    even in the moment of the answer, stops nobody."""
    joining: Joining[str, int] = Joining()
    begun: list[Deferred[int]] = []

    def start() -> Deferred[int]:
        begun.append(Deferred())
        return begun[-1]

    first, second, third = (joining.join("key", start) for _ in range(3))
    other = joining.join("other", start)
    assert (len(begun), "key" in joining) == (2, True)
    first.addErrback(lambda failure: failure.trap(CancelledError))
    first.cancel()

    def answered(result: int) -> int:
        third.cancel()
        return result

    second.addCallback(answered)
    third.addErrback(lambda failure: failure.trap(CancelledError))
    begun[0].callback(7)
    assert (second.result, "key" in joining) == (7, False)
    assert not other.called
    joining.join("key", start)
    assert len(begun) == 3


def test_joining_a_fault() -> None:
    """A fault reaches all who wait."""
    joining: Joining[str, int] = Joining()
    begun: Deferred[int] = Deferred()
    asking = [joining.join("key", lambda: begun) for _ in range(3)]
    begun.errback(ValueError("it is a test"))
    for asked in asking:
        asked.addErrback(lambda failure: failure.trap(ValueError))
        assert asked.result is ValueError


@pytest.mark.parametrize("cancelled", range(3))
def test_joining_who_left(cancelled: int) -> None:
    """Work goes on if all who waited have left."""
    joining: Joining[str, int] = Joining()
    begun: Deferred[int] = Deferred()
    asking = [joining.join("key", lambda: begun) for _ in range(cancelled + 1)]
    for asked in asking:
        asked.addErrback(lambda failure: failure.trap(CancelledError))
        asked.cancel()
    assert "key" in joining
    begun.callback(1)
    assert "key" not in joining
