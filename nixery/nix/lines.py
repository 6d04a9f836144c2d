"""The lines that a child process prints to its standard error."""

from collections import deque
from collections.abc import Callable

MAX_LINE = 4 * 1024 * 1024
"""Bytes of a line that are kept; the rest of it is dropped."""
_LAST = 200
_LONGEST = 2000

OnLines = Callable[[list[bytes]], None]


class LastLines:
    """Keeps the last lines, cut to some length, to find the reason of a failure in them."""

    def __init__(self) -> None:
        self._lines: deque[bytes] = deque(maxlen=_LAST)

    def take(self, lines: list[bytes]) -> None:
        """Take the next lines."""
        self._lines.extend(line[:_LONGEST] for line in lines[-_LAST:])

    def text(self, between: bytes = b"\n") -> str:
        """The lines that are not blank.

        :param between: separates them.
        """
        kept = (line for line in self._lines if line.strip())
        return between.join(kept).decode("utf-8", "replace")


class LineSplitter:
    """Cuts a stream into lines, however it is fragmented, and passes them on in batches."""

    def __init__(self, on_lines: OnLines, limit: int = MAX_LINE) -> None:
        """
        :param limit: bytes of a line that are kept.
        """
        self._on_lines = on_lines
        self._limit = limit
        self._rest = b""
        self._skipping = False

    def feed(self, data: bytes) -> None:
        """Take the next fragment."""
        *whole, rest = data.split(b"\n")
        if whole:
            whole[0] = self._rest + whole[0]
            self._rest = b""
            if self._skipping:
                whole.pop(0)
                self._skipping = False
            if whole:
                self._on_lines([line[: self._limit] for line in whole])
        if self._skipping:
            return
        self._rest += rest
        if len(self._rest) > self._limit:
            self._on_lines([self._rest[: self._limit]])
            self._rest = b""
            self._skipping = True

    def finish(self) -> None:
        """Pass on an unterminated last line."""
        if self._rest:
            self._on_lines([self._rest])
            self._rest = b""
