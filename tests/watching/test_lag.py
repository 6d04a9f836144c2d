"""How late the reactor is."""

import pytest
from twisted.internet.task import Clock

from nixery.watching.lag import INTERVAL, LagMeter


def test_lag() -> None:
    """What keeps the reactor busy shows, is remembered for a minute, and is not counted twice."""
    clock, observed = Clock(), list[float]()
    meter = LagMeter(clock, observed.append)
    meter.startService()
    clock.advance(INTERVAL)
    clock.advance(INTERVAL * 7.4)
    clock.advance(INTERVAL * 0.6)
    assert observed == pytest.approx([0, INTERVAL * 6.4, 0])
    assert meter.most == pytest.approx(INTERVAL * 6.4)
    clock.pump([INTERVAL] * round(60 / INTERVAL))
    assert meter.most == pytest.approx(0)
    meter.stopService()
    assert not clock.getDelayedCalls()
