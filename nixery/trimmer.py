"""Memory that this process returns to the system.

glibc keeps freed memory, in each of its arenas, up to the highest byte that is still in use: a
crowd that has left would cost as much as one that is there. Other C libraries have none of these
functions, and return more by themselves. Python's own allocator for small objects keeps most of
what a crowd took; with ``PYTHONMALLOC=malloc`` it is not used.
"""

import ctypes
import gc
from collections.abc import Callable
from functools import _lru_cache_wrapper as _Cached
from typing import Any

from twisted.internet.defer import Deferred

from nixery.lifecycle import Timer
from nixery.reactor import IReactor, in_thread

AGAIN = 15.0
"""Seconds between two times that memory is returned."""

_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8  # of malloc.h
_OWN_PAGES = 128 * 1024  # bytes: larger blocks are returned at once
_ARENAS = 2
_THRESHOLDS = (2_000, 10, 1_000)
"""Of Python's search for cycles: new objects per search, searches per search among older ones, and
of these per search among all: that takes half a second with thousands of connections, and would
happen every two seconds with Python's own thresholds."""
_WHOLE = 4
"""While a crowd is there, all objects are searched every so many times that memory is returned:
once a minute, of which half a second is less than a hundredth."""
_MANY = 100  # results in a cache
_CROWD = 100  # connections; what fewer leave behind is soon used again


class Trimmer(Timer):
    """Returns free memory to the system now and then."""

    def __init__(
        self, reactor: IReactor, connections: Callable[[], int], library: Any = None
    ) -> None:
        """
        :param connections: tells how many are open.
        :param library: the C library; this process's own if none is given.
        """
        super().__init__(reactor, AGAIN, self._trim, now=False)
        self._reactor = reactor
        self._connections = connections
        self._library = ctypes.CDLL(None) if library is None else library
        self._most = 0
        self._times = 0
        self._settled = False
        self._caches: list[_Cached[Any]] = []

    def startService(self) -> None:
        """Begin, where the C library can do it."""
        gc.set_threshold(*_THRESHOLDS)
        self._caches = [each for each in gc.get_objects() if isinstance(each, _Cached)]
        # The modules: to search these for garbage takes a tenth of a second.
        gc.freeze()
        if not hasattr(self._library, "malloc_trim"):
            return
        # glibc would raise this by itself to the size of whatever was freed, up to 32 MB.
        self._library.mallopt(_M_MMAP_THRESHOLD, _OWN_PAGES)
        # Otherwise up to eight per processor, each with memory that it keeps.
        self._library.mallopt(_M_ARENA_MAX, _ARENAS)
        super().startService()

    def _trim(self) -> Deferred[object]:
        now = self._connections()
        if not self._settled and now < _CROWD:
            # What is there by now stays: earlier builds, packages, Python's own objects.
            self._settled = True
            gc.collect()
            gc.freeze()
        self._most = max(self._most, now)
        self._times += 1
        if self._most > _CROWD and (now < _CROWD or self._times >= _WHOLE):
            if now < _CROWD:
                self._forget()
            # Requests are in cycles, which Python would keep until there are many others.
            gc.collect()
            self._most, self._times = now, 0
        return in_thread(self._reactor, self._library.malloc_trim, 0)

    def _forget(self) -> None:
        """Empty the caches of functions that a crowd has filled: each result that is kept keeps a
        page of memory, in which the rest was the crowd's."""
        for each in self._caches:
            if each.cache_info().currsize > _MANY:
                each.cache_clear()
