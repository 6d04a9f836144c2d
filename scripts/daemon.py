"""Runs twistd, and makes Ctrl-C while it is loaded an end in one sentence."""

import os
import signal
import sys


def stop(number: int, frame: object) -> None:
    os.write(2, b"Stopped before the daemon was ready.\n")
    # make, stopped too, ends by the signal; of another exit code it would print a line.
    os._exit(0 if "MAKELEVEL" in os.environ else 130)


# It was ignored until here. Twisted leaves a handler of somebody else alone, and the daemon puts
# its own in the place of this one when it listens.
signal.signal(signal.SIGINT, stop)

from twisted.scripts.twistd import run  # noqa: E402

sys.argv[0] = "twistd"
run()
