"""Records a command in a terminal, for https://asciinema.org/: ``record.py FILE COMMAND…``."""

import fcntl
import json
import os
import pty
import select
import struct
import sys
import termios
import time

WIDTH, HEIGHT = 80, 12
_LAST = 2.0  # seconds for which the end is shown


def record(command: list[str]) -> tuple[list[tuple[float, str]], int]:
    """Run a command in a terminal of its own.

    :return: what it printed, with the seconds since its start, and its exit code.
    """
    child, terminal = pty.fork()
    if child == 0:
        os.environ |= {"TERM": "xterm-256color", "COLUMNS": str(WIDTH), "LINES": str(HEIGHT)}
        os.execvp(command[0], command)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", HEIGHT, WIDTH, 0, 0))
    began, events = time.monotonic(), [(0.0, f"$ {' '.join(command)}\r\n")]
    while True:
        select.select([terminal], [], [])
        try:
            data = os.read(terminal, 65536)
        except OSError:  # the command has ended
            break
        if not data:
            break
        text = data.decode("utf-8", "replace")
        if text != events[-1][1]:  # a bar is drawn again and again
            events.append((time.monotonic() - began, text))
    _, status = os.waitpid(child, 0)
    return events, os.waitstatus_to_exitcode(status)


def main() -> None:
    """Write the recording: https://docs.asciinema.org/manual/asciicast/v2/."""
    path, *command = sys.argv[1:]
    events, code = record(command)
    head = {"version": 2, "width": WIDTH, "height": HEIGHT, "title": " ".join(command)}
    with open(path, "w", encoding="ascii") as file:
        print(json.dumps(head), file=file)
        for seconds, text in [*events, (events[-1][0] + _LAST, "")]:
            print(json.dumps([round(seconds, 3), "o", text]), file=file)
    sys.exit(code)


if __name__ == "__main__":
    main()
