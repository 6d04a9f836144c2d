"""A bounded cache of the values that were noted or used last, with their age."""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
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
    """A bounded cache: the values that were noted or used last."""

    def __init__(
        self, now: Callable[[], float], most: int, weigh: Callable[[V], int] = lambda _: 1
    ) -> None:
        """
        :param now: a clock, in seconds.
        :param most: the bound on the weight of all values together.
        :param weigh: the weight of a value.
        """
        self._now = now
        self._most = most
        self._weigh = weigh
        self._noted: OrderedDict[K, _Noted[V]] = OrderedDict()
        self._weight = 0

    def get(self, key: K, age: float | None = None) -> V | None:
        """A value, unless it is too old.

        :param age: seconds since it was noted from which on it is too old.
        """
        noted = self._noted.get(key)
        if noted is None or (age is not None and self._now() - noted.since >= age):
            return None
        self._noted.move_to_end(key)
        return noted.value

    def put(self, key: K, value: V, since: float | None = None) -> None:
        """Note a value.

        :param since: the time from which on its age counts; none for now.
        """
        self.forget(key)
        weight = self._weigh(value)
        self._noted[key] = _Noted(value, self._now() if since is None else since, weight)
        self._weight += weight
        while self._weight > self._most:
            _, oldest = self._noted.popitem(last=False)
            self._weight -= oldest.weight

    def __len__(self) -> int:
        return len(self._noted)

    def items(self) -> Iterator[tuple[K, V]]:
        """All keys and values, whatever their age, the one that was used last at the end."""
        return ((key, noted.value) for key, noted in self._noted.items())

    def expire(self, age: float) -> None:
        """Drop all values that are too old: see :meth:`get`."""
        now = self._now()
        for key in [key for key, noted in self._noted.items() if now - noted.since >= age]:
            self.forget(key)

    def forget(self, key: K) -> None:
        """Drop a value if it is there."""
        noted = self._noted.pop(key, None)
        if noted is not None:
            self._weight -= noted.weight
