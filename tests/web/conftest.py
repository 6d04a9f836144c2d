"""Requests whose answers are known, and histories."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from nixery.history.history import History


@pytest.fixture(params=["made", "known", "lent"])
def both_ways(request: pytest.FixtureRequest) -> Iterator[None]:
    """Have each request of a test answered as if nothing were known, or with what is known, by the
    server or by a responder."""
    from tests.web.server import Server  # it needs the reactor, which is chosen after this file

    Server.times = {"made": 1, "known": 2, "lent": 3}[request.param]
    yield
    Server.times = 1


@pytest.fixture
def history(tmp_path: Path) -> History:
    """An empty history."""
    from tests.history.histories import open_history

    made: History = pytest_twisted.blockon(Deferred.fromCoroutine(open_history(tmp_path)))
    return made
