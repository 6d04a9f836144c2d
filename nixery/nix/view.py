"""What a process sees of the machine's files: pure.

Folders and files are hidden by mounts over them; what is needed of a hidden folder is shown in it
again. :mod:`nixery.nix.supervisor` makes the mounts.
"""

import os
from collections.abc import Iterable


def mounts(hidden: Iterable[str], shown: Iterable[str]) -> list[str]:
    """The mounts that make a view, in their order.

    :param hidden: paths of what is hidden, with all that is in it.
    :param shown: paths of what is to be seen in spite of that; what is both hidden and shown is
        shown. Something hidden within it stays hidden.
    """
    wanted = {_plain(path): "-" for path in hidden} | {_plain(path): "+" for path in shown}
    taken: dict[str, str] = {}
    # Those that contain others come first.
    for path in sorted(wanted, key=lambda path: (path.count("/"), path)):
        if wanted[path] != taken.get(_nearest(path, taken), "+"):
            taken[path] = wanted[path]
    return [f"{verb}{path}" for path, verb in taken.items()]


def within(path: str, folders: Iterable[str]) -> bool:
    """Whether a path is one of some folders, or lies in one."""
    parts = _plain(path)
    return any(parts == f or parts.startswith(f.rstrip("/") + "/") for f in map(_plain, folders))


def _nearest(path: str, known: Iterable[str]) -> str:
    """The longest of the paths that contain one."""
    return max((each for each in known if within(path, [each])), key=len, default="")


def _plain(path: str) -> str:
    return os.path.normpath("/" + path.lstrip("/"))
