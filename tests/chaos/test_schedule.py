"""What the faults of a run depend on."""

from hypothesis import given
from hypothesis import strategies as st

from tests.chaos.schedule import KINDS, RESTARTS_UNTIL, draw


@given(st.integers(0, 2**32))
def test_a_seed_is_a_schedule(seed: int) -> None:
    """The same seed gives the same faults; another gives others."""
    assert draw(seed, 60) == draw(seed, 60)
    assert draw(seed, 60) != draw(seed + 1, 60)


@given(st.integers(0, 2**32))
def test_every_kind_comes(seed: int) -> None:
    """Every kind comes in a long run, each in its time and in their order, and the daemon is not
    restarted at its end."""
    faults = draw(seed, 300)
    assert {fault.kind for fault in faults} == KINDS
    times = [fault.at for fault in faults]
    assert times == sorted(times)
    assert times[0] > 0
    assert times[-1] < 300
    restarts = [fault.at for fault in faults if fault.kind.startswith("daemon")]
    assert max(restarts) < 300 * RESTARTS_UNTIL
