"""Signals, handled where the reactor can."""

import signal
from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.interfaces import IReactorFromThreads


class Signals:
    """Has functions called when signals come, instead of what Twisted would do.

    twistd's own handler has the process end by the signal, which service managers take for a
    failure.
    """

    def __init__(
        self, reactor: IReactorFromThreads, handlers: Mapping[signal.Signals, Callable[[], object]]
    ) -> None:
        """
        :param handlers: are called by the reactor.
        """
        self._reactor = reactor
        self._handlers = handlers
        self._before: dict[signal.Signals, Any] = {}

    def take(self) -> None:
        """Handle them from now on."""
        for number in self._handlers:
            self._before[number] = signal.signal(number, self._came)

    def leave(self) -> None:
        """Have them handled as before."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def _came(self, number: int, _: object) -> None:
        self._reactor.callFromThread(self._handlers[signal.Signals(number)])
