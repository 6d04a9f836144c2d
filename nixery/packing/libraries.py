"""What programs need of a closure that they do not refer to: C library, terminals, fonts."""

import os
import re
from collections import Counter
from collections.abc import Callable, Iterator

from nixery.model.closure import Graph
from nixery.model.data_places import FONT_SETTINGS, ClosureData
from nixery.model.rootfs import CLibrary, loader_name
from nixery.packing.listing import follow

_OF_C = re.compile(r"lib[^/]+\.so\.[0-9]+")
"""Libraries with the names that programs are linked with, not those that compilers look for."""
_BESIDES = ("libatomic.so.1", "libgcc_s.so.1", "libgomp.so.1", "libstdc++.so.6", "libz.so.1")
"""Libraries of compilers, and another that nearly every program made elsewhere needs."""


def find_c_library(graph: Graph, system: str, physical: Callable[[str], str]) -> CLibrary | None:
    """Look for the C library of a closure: files are looked at, not for the reactor's thread.

    Of several, that which most store paths refer to counts.

    :param system: the Nix system of the closure.
    :param physical: where a store path's files lie on this machine.
    :raises OSError: if something can't be read.
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
    """Look for data that programs of a closure use, as ncurses and fontconfig have it.

    Of several, that of the store path which most others refer to counts.

    :param physical: where a store path's files lie on this machine.
    """
    paths = _most_used(graph)

    def first(*names: str, is_right: Callable[[str], bool]) -> str | None:
        places = (f"{path}/{name}" for path in paths for name in names)
        return next((place for place in places if _is(place, is_right, graph, physical)), None)

    return ClosureData(
        first("share/terminfo", "lib/terminfo", is_right=os.path.isdir),
        first(FONT_SETTINGS, is_right=os.path.isfile),
    )


def _is(
    place: str, is_right: Callable[[str], bool], graph: Graph, physical: Callable[[str], str]
) -> bool:
    """Whether something in a store path is right in an image too, and no link to elsewhere.

    :param is_right: what it is to be, of a path on this machine.
    """
    end = follow(place, physical)
    return end is not None and is_right(physical(end)) and "/".join(end.split("/")[:4]) in graph


def _most_used(graph: Graph) -> list[str]:
    used = Counter(each for node in graph.values() for each in node["references"])
    return sorted(graph, key=lambda path: (-used[path], path))


def _has(path: str, name: str, physical: Callable[[str], str]) -> bool:
    """Whether a store path has a library; a link may lead into a store that lies elsewhere."""
    return os.path.lexists(physical(f"{path}/lib/{name}"))


def _libraries_of_c(path: str, physical: Callable[[str], str]) -> Iterator[str]:
    return (name for name in sorted(os.listdir(physical(f"{path}/lib"))) if _OF_C.fullmatch(name))
