"""How far several things are that are made at the same time."""

import threading
from typing import TextIO


class Progress:
    """Prints a line whenever one of them is further, with the states of all.

    :param file: where to; every line is whole, and there at once.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._states: dict[str, str] = {}

    def __call__(self, name: str, state: str) -> None:
        """Note and print how far one is."""
        with self._lock:
            self._states[name] = state
            line = "; ".join(f"{name}: {self._states[name]}" for name in sorted(self._states))
            print(line, file=self._file, flush=True)
