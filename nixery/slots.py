"""Turns at work: a bounded number of tasks at once, and one at a time for each key."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from operator import itemgetter
from typing import Generic, TypeVar

from twisted.internet.defer import Deferred

K = TypeVar("K", bound=Hashable)


class Slot:
    """The right to work, until it is released or the ``with`` block around it ends."""

    def __init__(self, free: Callable[[], None]) -> None:
        self._free: Callable[[], None] | None = free

    def release(self) -> None:
        """Let the next task begin; harmless if it was released before."""
        free, self._free = self._free, None
        if free is not None:
            free()

    def __enter__(self) -> "Slot":
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


class Slots:
    """A bounded number of slots: ``with await slots.take(): …``.

    Of the tasks that wait, the lowest rank goes first. Within a rank clients take turns, and the
    tasks of one client go in order: a client with a hundred tasks delays another one by one task.
    """

    def __init__(self, at_once: int = 1) -> None:
        """
        :param at_once: the number of slots.
        """
        self._slots = self._free = at_once
        self._handing = False
        self._waiting: OrderedDict[tuple[int, str], dict[Deferred[None], None]] = OrderedDict()

    def __len__(self) -> int:
        """The number of tasks that hold a slot or wait for one."""
        return self._slots - self._free + sum(map(len, self._waiting.values()))

    async def take(self, client: str = "", rank: int = 0) -> Slot:
        """Wait for a slot. Cancelling this leaves the queue.

        :param client: on whose behalf.
        :param rank: lower ranks go first.
        """
        if self._free and not self._waiting:
            self._free -= 1
        else:
            key = (rank, client)
            turn: Deferred[None] = Deferred(lambda turn: self._leave(key, turn))
            self._waiting.setdefault(key, {})[turn] = None
            await turn
        return Slot(self._release)

    def _release(self) -> None:
        self._free += 1
        if self._handing:
            return  # a task that was begun below has ended already: no recursion for each of them
        self._handing = True
        while self._free and self._waiting:
            key = min(self._waiting, key=itemgetter(0))
            self._waiting.move_to_end(key)
            turn = next(iter(self._waiting[key]))
            self._leave(key, turn)
            self._free -= 1
            turn.callback(None)
        self._handing = False

    def _leave(self, key: tuple[int, str], turn: Deferred[None]) -> None:
        turns = self._waiting[key]
        del turns[turn]
        if not turns:
            del self._waiting[key]


class Turns(Generic[K]):
    """One slot for each key; a key that nobody uses takes no memory."""

    def __init__(self) -> None:
        self._slots: dict[K, Slots] = {}

    def __len__(self) -> int:
        """The number of keys in use."""
        return len(self._slots)

    def users(self, key: K) -> int:
        """The number of tasks that hold a key's slot or wait for it."""
        return len(self._slots.get(key, ()))

    async def take(self, key: K, client: str = "") -> Slot:
        """Wait for the slot of a key. Cancelling this leaves the queue.

        :param client: on whose behalf: clients take turns.
        """
        slots = self._slots.setdefault(key, Slots())
        try:
            slot = await slots.take(client)
        except BaseException:
            self._tidy(key)
            raise

        def free() -> None:
            slot.release()
            self._tidy(key)

        return Slot(free)

    def _tidy(self, key: K) -> None:
        if not self.users(key):
            self._slots.pop(key, None)
