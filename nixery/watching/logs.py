"""The log: as text or JSON, and with the lines of pulls written in batches."""

import json
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import IO, Any

from twisted.internet.interfaces import IDelayedCall
from twisted.logger import (
    FileLogObserver,
    ILogObserver,
    LogEvent,
    formatEvent,
    formatEventAsClassicLogText,
    formatTime,
)
from twisted.python.logfile import LogFile
from zope.interface import implementer

from nixery.reactor import IReactor

DELAY = 0.1
"""Seconds until a line that may wait is written."""
MOST = 1000
"""Lines that wait."""
_PLAIN = (str, int, float, bool, type(None))


@implementer(ILogObserver)
class BatchingObserver:
    """Writes each event as a line, in the order in which they come.

    Those with a field ``log_later`` are formatted and written together: a moment later, or in front
    of the next event without it, as twistd's last one is. They are from the reactor's thread, and
    their formats have plain fields alone.
    """

    def __init__(
        self, reactor: IReactor, out: IO[Any], line: Callable[[LogEvent], str | None]
    ) -> None:
        """
        :param out: a file, of text or of bytes.
        :param line: makes an event a line with its end, or nothing.
        """
        self._reactor = reactor
        self._line = line
        self._file = FileLogObserver(out, lambda event: "".join(event["lines"]))
        self._waiting: list[LogEvent] = []
        # A thread that writes may be interrupted by its own next event: by a Deferred, say, that
        # Python's garbage collector finds to have failed for nobody.
        self._lock = threading.RLock()
        self._timer: IDelayedCall | None = None

    def __call__(self, event: LogEvent) -> None:
        """Write an event, or have it wait."""
        if "log_later" not in event:
            self._write(event)
            return
        self._waiting.append(event)
        if len(self._waiting) >= MOST:
            self._write()
        elif self._timer is None:
            self._timer = self._reactor.callLater(DELAY, self._write_later)

    def _write_later(self) -> None:
        self._timer = None
        self._write()

    def _write(self, *more: LogEvent) -> None:
        with self._lock:  # others come from threads
            waiting, self._waiting = self._waiting, []
            for events in (waiting, more):  # one that can't be written takes no others with it
                self._file({"lines": filter(None, map(self._line, events))})


def log_observer(
    reactor: IReactor, options: Mapping[str, Any], in_json: bool
) -> ILogObserver | None:
    """The observer that writes the log where twistd's options say.

    :return: none where twistd's own does that: as text to syslog, or to refuse standard output in
        the background, where nobody reads it.
    """
    path = options.get("logfile")
    in_foreground = bool(options.get("nodaemon"))
    if (options.get("syslog") and not in_json) or (path == "-" and not in_foreground):
        return None
    line = json_line if in_json else text_line
    if path == "-" or (in_foreground and not path):
        return BatchingObserver(reactor, sys.stdout, line)
    out = LogFile.fromFullPath(path or "twistd.log", **({"rotateLength": 0} if in_json else {}))
    if not signal.getsignal(signal.SIGUSR1):  # as twistd does
        signal.signal(signal.SIGUSR1, lambda *_: reactor.callFromThread(out.rotate))
    return BatchingObserver(reactor, out, line)


def text_line(event: LogEvent) -> str | None:
    """An event as a line of text, as twistd has it."""
    if "log_later" not in event:
        return formatEventAsClassicLogText(event)
    system = f"{event['log_namespace']}#{event['log_level'].name}"
    text = _message(event).replace("\n", "\n\t")
    seconds = int(round(event["log_time"], 6))  # as datetime does, before it drops the fraction
    return f"{_time(seconds)} [{system}] {text}\n"


@lru_cache(2)
def _time(seconds: int) -> str:
    return formatTime(seconds)


def _message(event: LogEvent) -> str:
    """An event in words. Twisted looks for calls in a format, which takes its time."""
    if "log_later" in event:
        return str(event["log_format"].format_map(event))
    return formatEvent(event)


def json_line(event: LogEvent) -> str:
    """An event as a line: time, level, logger, message, and the values it is made of by name.

    It is ASCII without control characters whatever the event holds: nobody can forge a line.
    """
    level, failure = event.get("log_level"), event.get("log_failure")
    document = {
        "time": datetime.fromtimestamp(event["log_time"], UTC).isoformat(timespec="milliseconds"),
        "level": level.name if level is not None else "info",
        "logger": event.get("log_namespace", ""),
        "message": _message(event),
    }
    if failure is not None:
        document["traceback"] = failure.getTraceback()
    for name, value in event.items():
        if isinstance(value, _PLAIN) and not name.startswith("log_") and name not in document:
            document[name] = value
    try:
        return json.dumps(document, allow_nan=False) + "\n"
    except ValueError:  # JSON has no NaN and no infinity
        odd = {name: str(v) for name, v in document.items() if isinstance(v, float)}
        return json.dumps({**document, **odd}) + "\n"
