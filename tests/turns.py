"""Turns for the tests of a run that has several workers."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Turns:
    """Turns that are shared by all tests but those that have theirs alone.

    :param folder: belongs to the run; its workers lock files there.
    """

    def __init__(self, folder: Path) -> None:
        self._queue, self._running = folder / "queue", folder / "running"

    @contextmanager
    def turn(self, alone: bool) -> Iterator[None]:
        """Wait for a turn, and have it until the block ends."""
        with _opened(self._running) as running:
            # A test that waits for all others to end keeps the queue locked: no other one begins.
            with _opened(self._queue) as queue:
                fcntl.flock(queue, fcntl.LOCK_EX)
                fcntl.flock(running, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
            yield


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    """A descriptor of a file to lock, which programs that are started do not inherit."""
    file = os.open(path, os.O_CREAT | os.O_RDONLY | os.O_CLOEXEC, 0o600)
    try:
        yield file
    finally:
        os.close(file)
