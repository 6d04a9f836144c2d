"""The bounded cache."""

from collections import OrderedDict

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from nixery.recent import Recent


def test_age() -> None:
    """A value is known up to the age that is asked for; for an age of 0, never."""
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


def test_old_values() -> None:
    """Values that are too old are dropped, and make room."""
    clock = Clock()
    recent: Recent[str, str] = Recent(clock.seconds, 2)
    recent.put("old", "value")
    clock.advance(5)
    recent.put("new", "value")
    recent.get("old")
    recent.expire(5)
    assert [key for key, _ in recent.items()] == ["new"]
    recent.put("newer", "value")
    assert len(recent) == 2
