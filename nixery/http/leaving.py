"""Handlers of requests whose clients may leave."""

from collections.abc import Awaitable, Callable, Coroutine
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from twisted.internet.defer import CancelledError

P = ParamSpec("P")
T = TypeVar("T")


def until_left(
    handler: Callable[P, Awaitable[T]],
) -> Callable[P, Coroutine[Any, Any, T | None]]:
    """Have a handler end with nothing where it is cancelled, since its client has left.

    The error knows all frames that it went through, and some of these know the error: with a
    crowd that leaves, that would be hundreds of thousands of objects which are found by the
    search for cycles alone.
    """

    @wraps(handler)
    async def handle(*args: P.args, **kwargs: P.kwargs) -> T | None:
        try:
            return await handler(*args, **kwargs)
        except CancelledError as error:
            error.__traceback__ = None
            return None

    return handle
