"""Parts of a closure that programs use without a reference: C library, terminals, fonts.

These functions block.
"""

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from nixery.model.closure import Graph
from nixery.model.data_places import FONT_SETTINGS, ClosureData
from nixery.model.inner_store import NIX_STORE
from nixery.model.rootfs import CLibrary, loader_name
from nixery.packing.listing import follow

_OF_C = re.compile(r"lib[^/]+\.so\.[0-9]+")
"""Names of libraries that programs load, not those that compilers look for."""
_BESIDES = ("libatomic.so.1", "libgcc_s.so.1", "libgomp.so.1", "libstdc++.so.6", "libz.so.1")
"""Libraries of compilers, and one that nearly all programs built elsewhere need."""


def find_c_library(graph: Graph, system: str, physical: Callable[[str], str]) -> CLibrary | None:
    """Find the C library of a closure; of several, the one with the most references.

    :param system: the Nix system of the closure.
    :param physical: gives the place of a store path's files on this machine.
    :raises OSError: if a file can't be read.
    """
    paths = _most_used(graph)
    loader = loader_name(system)
    found = next((path for path in paths if _has(path, loader, physical)), None)
    if found is None:
        return None
    libraries = {name: f"{found}/lib/{name}" for name in _libraries_of_c(found, physical)}
    for name in _BESIDES:
        if (path := next((p for p in paths if _has(p, name, physical)), None)) is not None:
            libraries.setdefault(name, f"{path}/lib/{name}")
    locale = f"{found}/lib/locale/C.utf8"
    has_locale = _is(locale, os.path.isdir, graph, physical)
    return CLibrary(f"{found}/lib/{loader}", libraries, locale if has_locale else None)


def find_data(graph: Graph, physical: Callable[[str], str]) -> ClosureData:
    """Find data that programs use, such as that of ncurses and fontconfig; of several, that of the
    store path with the most references.
    """
    paths = _most_used(graph)

    def first(*names: str, is_right: Callable[[str], bool]) -> str | None:
        places = (f"{path}/{name}" for path in paths for name in names)
        return next((place for place in places if _is(place, is_right, graph, physical)), None)

    return ClosureData(
        first("share/terminfo", "lib/terminfo", is_right=os.path.isdir),
        first(FONT_SETTINGS, is_right=os.path.isfile),
    )


def have_nix(paths: Iterable[str], physical: Callable[[str], str]) -> bool:
    """Whether packages have the program by which an image has Nix, as far as a look at that alone
    can tell: see :func:`nixery.model.inner_store.has_nix`."""
    ends = (follow(f"{path}/{NIX_STORE}", physical) for path in paths)
    return any(end is not None and os.path.isfile(physical(end)) for end in ends)


def _is(
    place: str, is_right: Callable[[str], bool], graph: Graph, physical: Callable[[str], str]
) -> bool:
    """Whether a file is of the right kind, and not a link that leads out of the closure.

    :param is_right: checks a path on this machine.
    """
    end = follow(place, physical)
    return end is not None and is_right(physical(end)) and "/".join(end.split("/")[:4]) in graph


def _most_used(graph: Graph) -> list[str]:
    used = Counter(each for node in graph.values() for each in node["references"])
    return sorted(graph, key=lambda path: (-used[path], path))


def _has(path: str, name: str, physical: Callable[[str], str]) -> bool:
    """Whether a store path has a library; it may be a link that dangles on this machine."""
    return os.path.lexists(physical(f"{path}/lib/{name}"))


def _libraries_of_c(path: str, physical: Callable[[str], str]) -> Iterator[str]:
    return (name for name in sorted(os.listdir(physical(f"{path}/lib"))) if _OF_C.fullmatch(name))
