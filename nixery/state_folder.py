"""Where the state folder is: for the daemon, and for commands that look for it."""

import os
from collections.abc import Mapping

API_TOKEN = "api-token"
API_ADDRESS = "api-address"
"""Names of files in it: the token that the daemon makes for operators, and where it listens."""


def state_folder(environ: Mapping[str, str]) -> str:
    """systemd's state folder, else the user's by the XDG base directory specification."""
    if environ.get("STATE_DIRECTORY"):
        return environ["STATE_DIRECTORY"].split(":")[0]
    home = environ.get("HOME") or os.path.expanduser("~")
    base = environ.get("XDG_STATE_HOME") or os.path.join(home, ".local", "state")
    return os.path.join(base, "nixery")
