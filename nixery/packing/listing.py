"""Listings of packages' outputs, for the root file system. These functions block."""

import os
from collections.abc import Callable, Iterator

from nixery.model.build_errors import TooManyFiles
from nixery.model.closure import STORE, store_name
from nixery.model.tree import Item, Kind, Listing

MOST = 200_000_000
"""About the bytes of memory that the listings of an image may take: a million files, or fewer with
long names."""
_MOST_LINKS = 40  # as many as Linux follows
_EACH = 100


def list_output(path: str, physical: Callable[[str], str], most: int = MOST) -> Listing:
    """List all that is below a store path.

    :param path: the output's store path.
    :param physical: gives the place of a store path's files on this machine.
    :param most: bytes of memory for the listing, as by :func:`weight`.
    :return: empty if the output is a file. A link stands for its target.
    :raises OSError: if a file can't be read.
    :raises TooManyFiles: if there is too much to list.
    """
    os.lstat(physical(path))
    end = follow(path, physical)
    if end is None or not os.path.isdir(physical(end)):
        return {}
    listing: dict[str, Item] = {}
    for name, item in _walk_top(end, physical):
        listing[name] = item
        most -= _EACH + len(name)
        if most < 0:
            raise TooManyFiles(store_name(path))
    return listing


def weight(listing: Listing) -> int:
    """About the bytes of memory that a listing takes."""
    return sum(_EACH + len(name) for name in listing)


def _walk_top(top: str, physical: Callable[[str], str]) -> Iterator[tuple[str, Item]]:
    """Walk an output. A link at its top to a folder of another store path, as nixpkgs' ``buildEnv``
    makes them, counts as that folder, so that others merge with it."""
    for name, item in _walk(top, physical):
        at_top = item.kind is Kind.OTHER and "/" not in name
        folder = _folder_of_another(top, name, physical) if at_top else None
        if folder is None:
            yield name, item
        else:
            yield name, Item(Kind.FOLDER)
            yield from ((f"{name}/{inner}", item) for inner, item in _walk(folder, physical))


def _folder_of_another(top: str, name: str, physical: Callable[[str], str]) -> str | None:
    end = follow(os.path.join(top, name), physical)
    if end is None or f"{end}/".startswith(f"{top}/") or not end.startswith(f"{STORE}/"):
        return None
    return end if os.path.isdir(physical(end)) else None


def _walk(top: str, physical: Callable[[str], str]) -> Iterator[tuple[str, Item]]:
    """All that is below a folder, each folder before its contents, without recursion: they may be
    deep."""
    rest = [""]
    while rest:
        below = rest.pop()
        with os.scandir(physical(os.path.join(top, below))) as entries:
            for entry in entries:
                name = os.path.join(below, entry.name)
                if entry.is_dir(follow_symlinks=False):
                    yield name, Item(Kind.FOLDER)
                    rest.append(name)
                elif entry.is_symlink():
                    yield name, _link(top, name, os.readlink(entry.path), physical)
                else:
                    yield name, Item(Kind.OTHER)


def _link(top: str, name: str, target: str, physical: Callable[[str], str]) -> Item:
    end = follow(os.path.join(top, name), physical)
    if end is None:
        return Item(Kind.DANGLING)
    inside = os.path.normpath(os.path.join(top, os.path.dirname(name), target))
    is_folder = os.path.isdir(physical(end))
    if is_folder and not target.startswith("/") and inside.startswith(top + "/"):
        return Item(Kind.ALIAS, target)
    return Item(Kind.OTHER)


def follow(path: str, physical: Callable[[str], str]) -> str | None:
    """Resolve a path as in the container; None if it does not lead into the store.

    Links are followed one by one: those to ``/nix/store`` or ``/etc`` must not be looked up among
    this machine's own files.
    """
    here, links = "/", 0
    rest = path.split("/")[::-1]
    while rest:
        here = os.path.normpath(os.path.join(here, rest.pop()))
        if here in ("/", "/nix", STORE):
            continue
        if not here.startswith(STORE + "/"):
            return None
        try:
            target = os.readlink(physical(here))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError:  # no link
            continue
        links += 1
        if links > _MOST_LINKS:
            return None
        here = os.path.dirname(here)
        rest.extend([*(["/"] if target.startswith("/") else []), *target.split("/")][::-1])
    return here
