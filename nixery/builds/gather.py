"""Waiting for several things at once."""

from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, DeferredList

T = TypeVar("T")


async def gather(tasks: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Run tasks side by side, wait for all to end, and raise the first one's error if any failed.

    :return: their results, in their order.
    """
    deferreds = [Deferred.fromCoroutine(task) for task in tasks]
    outcomes = await DeferredList(deferreds, consumeErrors=True)
    for succeeded, result in outcomes:
        if not succeeded:
            result.raiseException()  # type: ignore[attr-defined]  # a Failure then
    return [result for _, result in outcomes]
