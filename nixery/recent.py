"""What was found out last, and how long ago that was."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

import attrs

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@attrs.frozen
class _Noted(Generic[V]):
    value: V
    since: float
    weight: int


class Recent(Generic[K, V]):
    """Values that were noted or used last, within a bound."""

    def __init__(
        self, now: Callable[[], float], most: int, weigh: Callable[[V], int] = lambda _: 1
    ) -> None:
        """
        :param now: seconds, from any moment on.
        :param most: what all values together may weigh.
        """
        self._now = now
        self._most = most
        self._weigh = weigh
        self._noted: OrderedDict[K, _Noted[V]] = OrderedDict()
        self._weight = 0

    def get(self, key: K, age: float | None = None) -> V | None:
        """A value, unless it was noted longer ago than that.

        :param age: seconds.
        """
        noted = self._noted.get(key)
        if noted is None or (age is not None and self._now() - noted.since >= age):
            return None
        self._noted.move_to_end(key)
        return noted.value

    def put(self, key: K, value: V) -> None:
        """Note a value as of now."""
        self.forget(key)
        weight = self._weigh(value)
        self._noted[key] = _Noted(value, self._now(), weight)
        self._weight += weight
        while self._weight > self._most:
            _, oldest = self._noted.popitem(last=False)
            self._weight -= oldest.weight

    def forget(self, key: K) -> None:
        """Drop a value if it is there."""
        noted = self._noted.pop(key, None)
        if noted is not None:
            self._weight -= noted.weight
