"""Other programs, run to their end, some at once."""

import os
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
_MOST_WORDS = 60


class SetupError(Exception):
    """The set can't be made on this machine; the message is for its user."""


class Ran(NamedTuple):
    """What a program that succeeded has printed.

    :param errors: what it printed to standard error: warnings.
    """

    output: str
    errors: str


def ignore(line: str) -> None:
    """Make nothing of a line."""


def run(argv: list[str], tell: Callable[[str], None] = ignore) -> Ran:
    """Run a program.

    :param tell: is called with each line of its output, as it comes.
    :raises SetupError: with its last words if it fails, or is not there.
    """
    with tempfile.TemporaryFile("w+", errors="replace") as errors:
        lines = []
        with _running.start(argv, errors.fileno()) as process:
            assert process.stdout is not None
            for line in process.stdout:
                tell(line)
                lines.append(line)
        _running.ended(process)
        errors.seek(0)
        said = errors.read()
    if process.returncode != 0:
        raise SetupError(f"{argv[0]} failed: {' '.join(said.split()[-_MOST_WORDS:])}")
    return Ran("".join(lines), said)


def at_once(
    function: Callable[[_Item], _Result], items: Iterable[_Item], threads: int | None = None
) -> list[_Result]:
    """Call a function with each of some items, in threads.

    :raises: what the first of them raises; those that have not begun then never do.
    """
    with ThreadPoolExecutor(threads) as pool:
        futures = [pool.submit(function, item) for item in items]
        try:
            return [future.result() for future in futures]
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


class _Running:
    """The programs that run now."""

    def __init__(self) -> None:
        # A signal's handler stops us in the thread that starts a program.
        self._lock = threading.RLock()
        self._all: set[subprocess.Popen[str]] = set()
        self._stopped = False

    def start(self, argv: list[str], errors: int) -> "subprocess.Popen[str]":
        with self._lock:
            if self._stopped:
                raise SetupError("stopped")
            try:
                process = subprocess.Popen(
                    argv,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    text=True,
                    errors="replace",
                    # What programs say is read here: not in the language of the user.
                    env={**os.environ, "LC_ALL": "C"},
                )
            except FileNotFoundError:
                words = f"{argv[0]} is needed to make the package set: install it"
                raise SetupError(words) from None
            self._all.add(process)
            return process

    def ended(self, process: "subprocess.Popen[str]") -> None:
        with self._lock:
            self._all.discard(process)

    def stop(self) -> None:
        """End all programs, and start no other."""
        with self._lock:
            self._stopped = True
            for process in self._all:
                process.terminate()


_running = _Running()
stop = _running.stop
