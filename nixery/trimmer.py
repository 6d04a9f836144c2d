"""Memory that this process gives back to the system.

glibc keeps what was freed, for each of its arenas up to the highest byte that is still in use: a
crowd that has left would cost as much as one that is there. Other C libraries have none of these
functions, and give back more by themselves. Python's own allocator for small objects keeps most of
what a crowd took; with ``PYTHONMALLOC=malloc`` it is not used.
"""

import ctypes
import gc
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred

from nixery.lifecycle import Timer
from nixery.reactor import IReactor, in_thread

AGAIN = 15.0
"""Seconds between two times that memory is given back."""

_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8  # of malloc.h
_OWN_PAGES = 128 * 1024  # bytes: what is larger is given back at once
_ARENAS = 2
_THRESHOLDS = (2_000, 10, 1_000)
"""How many new objects have Python look for cycles among them, how often that is done before it
looks at older ones, and how often that, before it looks at all: which takes half a second among
thousands of connections, every two seconds with Python's own thresholds."""
_WHOLE = 4
"""While a crowd is there, all are looked at every so many times that memory is given back: that is
a minute, of which half a second is less than one part in a hundred."""
_CROWD = 100  # connections; what fewer have left is soon used again


class Trimmer(Timer):
    """Has what is free given back, now and then."""

    def __init__(
        self, reactor: IReactor, connections: Callable[[], int], library: Any = None
    ) -> None:
        """
        :param connections: says how many are open.
        :param library: the C library; this process's own if none is given.
        """
        super().__init__(reactor, AGAIN, self._trim, now=False)
        self._reactor = reactor
        self._connections = connections
        self._library = ctypes.CDLL(None) if library is None else library
        self._most = 0
        self._times = 0
        self._settled = False

    def startService(self) -> None:
        """Begin, where the C library can do it."""
        gc.set_threshold(*_THRESHOLDS)
        if not hasattr(self._library, "malloc_trim"):
            return
        # It would raise this by itself to the size of whatever was freed, up to 32 MB.
        self._library.mallopt(_M_MMAP_THRESHOLD, _OWN_PAGES)
        # As many as eight times the processors otherwise, each with what it keeps.
        self._library.mallopt(_M_ARENA_MAX, _ARENAS)
        super().startService()

    def _trim(self) -> Deferred[object]:
        now = self._connections()
        if not self._settled and now < _CROWD:
            # What is there by now stays: builds of before, packages, Python's own.
            self._settled = True
            gc.collect()
            gc.freeze()
        self._most = max(self._most, now)
        self._times += 1
        if self._most > _CROWD and (now < _CROWD or self._times >= _WHOLE):
            # Requests are in cycles: Python would keep them until there are many others.
            gc.collect()
            self._most, self._times = now, 0
        return in_thread(self._reactor, self._library.malloc_trim, 0)
