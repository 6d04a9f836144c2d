"""Bare git repositories in a folder, of which each is whole, or not there. Blocks: for threads."""

import hashlib
import os
import re
from collections.abc import Sequence

from nixery.nix.supervisor import remove

NEW = ".new"
"""How the name of one in the making ends."""
OLD = ".old"
"""How the name of one ends that may be damaged."""
_DAMAGED = re.compile(r"[0-9a-f]{32}\.git" + re.escape(OLD))
_FILES = re.compile(r"[0-9a-f]{32}\Z")
"""The folders of a commit's files, in the folder ``tmp``."""


def path_of(folder: str, url: str, purpose: str) -> str:
    """The place of the repository that is for something of a remote."""
    name = hashlib.sha256(f"{url} {purpose}".encode("utf-8", "surrogateescape")).hexdigest()
    return os.path.join(folder, f"{name[:32]}.git")


def make_room(path: str) -> None:
    """Have nothing at a place, and the folder that it is in."""
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    remove_all(path)


def move(paths: Sequence[str], before: str, after: str) -> None:
    """Rename those of some repositories that are there, by the ends of their names; others make
    room for them."""
    for path in paths:
        if os.path.exists(path + before):
            remove_all(path + after)
            os.rename(path + before, path + after)


def remove_all(path: str) -> None:
    """Remove what is at a place, however deep its folders are."""
    if os.path.lexists(path):
        remove(os.fsencode(path))


def drop_left(folder: str) -> list[str]:
    """Remove what an earlier process did not finish, or took for damaged.

    :return: the names of what was removed, within the folder.
    """
    found = [name for name in _names(folder) if _DAMAGED.fullmatch(name)]
    found += [f"tmp/{name}" for name in _names(os.path.join(folder, "tmp")) if _FILES.match(name)]
    for name in found:
        remove_all(os.path.join(folder, name))
    return found


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def drop_unfinished(repository: str) -> None:
    """Remove locks and files of processes of git that were killed: none is at it now."""
    for folder, _, names in os.walk(repository):
        for name in names:
            if name.endswith(".lock") or name.startswith("tmp_"):
                os.unlink(os.path.join(folder, name))
