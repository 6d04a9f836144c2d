"""Handlers whose clients leave."""

import gc
from weakref import ref

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from nixery.http.leaving import until_left


class Answer:
    """Something that a handler has in its hands."""


def test_nothing_stays() -> None:
    """When a client leaves, all that its handler had is gone, without a search for cycles."""
    left: list[ref[Answer]] = []

    async def build(waiting: "Deferred[None]") -> None:
        await waiting

    @until_left
    async def handle(waiting: "Deferred[None]") -> str:
        answer = Answer()
        left.append(ref(answer))
        await build(waiting)
        return "answered"

    gc.disable()
    try:
        handling = Deferred.fromCoroutine(handle(Deferred()))
        assert left[0]() is not None
        handling.cancel()
        assert left[0]() is None
    finally:
        gc.enable()
    results: list[object] = []
    handling.addCallback(results.append)
    assert results == [None]


@pytest_twisted.ensureDeferred
async def test_others_are_not_touched() -> None:
    """An answer, and any other error, pass through."""

    @until_left
    async def handle(number: int) -> int:
        if number < 0:
            raise ValueError(number)
        return number

    assert await handle(3) == 3
    with pytest.raises(ValueError, match="-1"):
        await handle(-1)
