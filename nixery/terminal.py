"""Messages in the terminal from which a daemon goes to the background.

twistd's process in the terminal waits until its child says on a pipe that it runs, and the child
says so before the reactor runs, hence before anything listens. Here the pipe is kept until it does.
The pipe is not public API: with a Twisted that has none, twistd returns early, as it would without
this.
"""

import os
from collections.abc import MutableMapping
from contextlib import suppress
from typing import Any

_PIPE = "statusPipe"
_STARTED = b"0"
_FAILED = b"1 it could not start"


class Terminal:
    """Reports in the terminal how the start ended; does nothing for a daemon in the foreground."""

    def __init__(self, config: MutableMapping[str, Any] | None) -> None:
        """To be called before twistd leaves the terminal.

        :param config: twistd's own options, if this runs under twistd.
        """
        self._config: MutableMapping[str, Any] = {} if config is None else config
        self._terminal: int | None = None
        self._pipe: int | None = None
        if config is not None and not config.get("nodaemon"):
            with suppress(OSError):
                self._terminal = os.dup(2)
            self._log = os.path.abspath(config.get("logfile") or "twistd.log")

    def hold(self) -> None:
        """Make the process in the terminal wait from now on."""
        pipe = self._config.get(_PIPE)
        if pipe is not None:
            self._pipe = os.dup(pipe)
            # twistd will write to it, and close it.
            self._config[_PIPE] = os.open(os.devnull, os.O_WRONLY)
            os.close(pipe)

    def started(self, words: str) -> None:
        """The daemon runs.

        :param words: follow ``nixery:``.
        """
        self._end(f"{words}, process {os.getpid()}", _STARTED)

    def failed(self, words: str) -> None:
        """The daemon does not run: the words say why."""
        self._end(words, _FAILED)

    def remove_pid(self) -> None:
        """Remove the file with the process ID, for a process that does not end as twistd would."""
        if path := self._config.get("pidfile"):
            with suppress(OSError):
                os.unlink(path)

    def _end(self, words: str, status: bytes) -> None:
        """Report how the start ended, and release the terminal; harmless after the first time."""
        terminal, self._terminal = self._terminal, None
        pipe, self._pipe = self._pipe, None
        if terminal is not None:
            _write(terminal, f"nixery: {words} (log: {self._log})\n".encode())
        if pipe is not None:
            _write(pipe, status)


def _write(descriptor: int, content: bytes) -> None:
    with suppress(OSError):  # nobody reads it any more
        os.write(descriptor, content)
    os.close(descriptor)
