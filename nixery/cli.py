"""The command ``nixery``: ``twistd nixery`` in the foreground."""

import sys

from twisted.scripts import twistd


def main() -> None:
    """Run the daemon until it is stopped; the options are those of ``twistd nixery``."""
    sys.argv[1:] = ["--nodaemon", "--pidfile=", "nixery", *sys.argv[1:]]
    twistd.run()
