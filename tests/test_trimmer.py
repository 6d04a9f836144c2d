"""Memory that is given back to the system."""

import gc
from collections import Counter
from functools import lru_cache
from typing import Any
from weakref import ref

from twisted.internet import reactor as _reactor
from twisted.internet.task import Clock

from nixery.trimmer import AGAIN, Trimmer

reactor: Any = _reactor


class Pool:
    """A thread pool whose work is done at once."""

    def callInThreadWithCallback(self, on_result: Any, work: Any, *arguments: Any) -> None:
        on_result(True, work(*arguments))


class Reactor(Clock):
    """A reactor at a time that the test makes."""

    def getThreadPool(self) -> Pool:
        return Pool()

    def callFromThread(self, work: Any, *arguments: Any) -> None:
        work(*arguments)


class Library:
    """A C library that notes what it is told."""

    def __init__(self) -> None:
        self.trimmed = 0
        self.options: dict[int, int] = {}

    def mallopt(self, option: int, value: int) -> int:
        self.options[option] = value
        return 1

    def malloc_trim(self, pad: int) -> int:
        self.trimmed += 1
        return 1


def test_now_and_then() -> None:
    """What is free is given back now and then, until that is stopped."""
    clock: Any = Reactor()
    library = Library()
    trimmer = Trimmer(clock, lambda: 0, library)
    trimmer.startService()
    assert len(library.options) == 2
    clock.pump([AGAIN] * 3)
    assert library.trimmed == 3
    trimmer.stopService()
    clock.pump([AGAIN] * 3)
    assert library.trimmed == 3
    assert not clock.getDelayedCalls()


class Cyclic:
    """Something that refers to itself."""

    def __init__(self) -> None:
        self.own = self


def test_after_a_crowd() -> None:
    """What connections leave behind in cycles goes while there are many, once a minute, and when
    those have left."""
    clock: Any = Reactor()
    connections = Counter(open=0)
    trimmer = Trimmer(clock, lambda: connections["open"], Library())
    trimmer.startService()
    gc.disable()
    try:
        for count, times in ((1000, 4), (1000, 4), (10, 1)):
            connections["open"] = count
            left = ref(Cyclic())
            for time in range(times):
                assert left() is not None, time
                clock.advance(AGAIN)
            assert left() is None
        left = ref(Cyclic())
        clock.pump([AGAIN] * 10)
        assert left() is not None
    finally:
        gc.enable()
        trimmer.stopService()


def test_caches_that_a_crowd_has_filled() -> None:
    """When a crowd has left, what was kept of its many answers is not kept on; a few are."""
    clock: Any = Reactor()
    connections = Counter(open=1000)
    many, few = (lru_cache(1000)(lambda number: str(number)) for _ in range(2))
    trimmer = Trimmer(clock, lambda: connections["open"], Library())
    trimmer.startService()
    for number in range(500):
        many(number)
        few(number % 5)
    clock.advance(AGAIN)
    assert many.cache_info().currsize == 500
    connections["open"] = 0
    clock.advance(AGAIN)
    assert (many.cache_info().currsize, few.cache_info().currsize) == (0, 5)
    trimmer.stopService()


def test_other_libraries() -> None:
    """A C library without the functions is left alone."""
    clock: Any = Reactor()
    trimmer = Trimmer(clock, lambda: 0, object())
    trimmer.startService()
    trimmer.stopService()
    assert not clock.getDelayedCalls()


def test_own_library() -> None:
    """This process's own C library takes the calls."""
    trimmer = Trimmer(reactor, lambda: 0)
    trimmer.startService()
    trimmer.stopService()


def test_what_stays_is_not_looked_at_again() -> None:
    """What is there at the start is left out of the search for cycles, and once more when nobody
    has come yet; not while a crowd is there, whose objects would be kept for ever."""
    gc.unfreeze()
    connections = 1000
    clock: Any = Reactor()
    trimmer = Trimmer(clock, lambda: connections, Library())
    trimmer.startService()
    assert gc.get_freeze_count() > 0
    gc.unfreeze()
    clock.advance(AGAIN)
    assert gc.get_freeze_count() == 0
    connections = 0
    clock.advance(AGAIN)
    assert gc.get_freeze_count() > 0
    gc.unfreeze()
    clock.advance(AGAIN)
    assert gc.get_freeze_count() == 0
    trimmer.stopService()
