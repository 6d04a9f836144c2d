"""The log as JSON, one document per line."""

import json
import sys
from datetime import UTC, datetime
from typing import IO, Any

from twisted.logger import FileLogObserver, ILogObserver, LogEvent, formatEvent
from twisted.python.logfile import LogFile

_PLAIN = (str, int, float, bool, type(None))


def json_observer(path: str | None) -> ILogObserver:
    """Writes every event as a JSON document in a line.

    :param path: the log file; none, or ``-``, for standard output.
    """
    # As with twistd's own log, rotated at SIGUSR1 only.
    out: IO[Any] = sys.stdout if path in (None, "-") else LogFile.fromFullPath(path, rotateLength=0)
    observer: ILogObserver = FileLogObserver(out, json_line)
    return observer


def json_line(event: LogEvent) -> str:
    """An event as a line: time, level, logger, message, and the values it is made of by name.

    It is ASCII without control characters whatever the event holds: nobody can forge a line.
    """
    level, failure = event.get("log_level"), event.get("log_failure")
    document = {
        "time": datetime.fromtimestamp(event["log_time"], UTC).isoformat(timespec="milliseconds"),
        "level": level.name if level is not None else "info",
        "logger": event.get("log_namespace", ""),
        "message": formatEvent(event),
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
