"""The environment of child processes that run Nixery's own modules."""

import os
import sys


def module_paths() -> dict[str, str]:
    """The environment of a child that finds the modules that we find, and has no more of ours."""
    paths = os.pathsep.join(os.path.abspath(path) for path in sys.path if path)
    shared = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
    return {"PYTHONPATH": paths, **shared}
