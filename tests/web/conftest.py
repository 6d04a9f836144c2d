"""Requests whose answers are known."""

from collections.abc import Iterator

import pytest


@pytest.fixture(params=["made", "known", "lent"])
def both_ways(request: pytest.FixtureRequest) -> Iterator[None]:
    """Have each request of a test answered as if nothing were known, or with what is known, by the
    server or by a responder."""
    from tests.web.server import Server  # it needs the reactor, which is chosen after this file

    Server.times = {"made": 1, "known": 2, "lent": 3}[request.param]
    yield
    Server.times = 1
