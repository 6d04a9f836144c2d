"""Requests whose answers are known."""

from collections.abc import Iterator

import pytest


@pytest.fixture(params=["made", "known"])
def both_ways(request: pytest.FixtureRequest) -> Iterator[None]:
    """Have each request of a test answered as if nothing were known, or with what is known."""
    from tests.web.server import Server  # it needs the reactor, which is chosen after this file

    Server.twice = request.param == "known"
    yield
    Server.twice = False
