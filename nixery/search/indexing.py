"""``python -m nixery.search.indexing KIND FOLDER STORE``: make a package index.

A process of its own: for a large set this takes many seconds, in which the daemon's threads would
keep one another waiting. The folder has a file ``told``, of lines that ``nix/index.nix`` printed,
or ``index``, an index whose programs may have changed. The result is the file ``made`` beside it,
empty if nothing has changed.
"""

import os
import sys
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress

import attrs

from nixery.model.package_set import Package, parse_told, with_image_names
from nixery.search.ranking import Index

_HASH = 33  # characters before a store path's name
_MOST = 500  # programs of a package


def make(kind: str, content: bytes, store: str) -> bytes:
    """Make an index.

    :param kind: of the content: ``told`` or ``index``.
    :param store: the folder with the store paths.
    :return: the dumped index; nothing if it is the same as before.
    """
    if kind == "told":
        packages = with_image_names(parse_told(content.split(b"\n")))
        return Index.of(with_programs(packages, store)).dump()
    before = list(Index.load(content).all_packages())
    after = with_programs(before, store)
    return b"" if after == before else Index.of(after).dump()


def with_programs(packages: Sequence[Package], store: str) -> list[Package]:
    """The packages, with the programs in store paths of their name. Blocks.

    The name with its version is enough: where the store has another revision of it, its programs
    are the same but for rare exceptions. Nothing is evaluated for it.

    :param store: the folder with the store paths.
    """
    held: defaultdict[str, list[str]] = defaultdict(list)
    with suppress(OSError):
        for entry in os.listdir(store):
            held[entry[_HASH:]].append(entry)
    return [attrs.evolve(p, programs=_programs(p.name, held, store)) for p in packages]


def _programs(name: str, held: dict[str, list[str]], store: str) -> tuple[str, ...]:
    programs: set[str] = set()
    for entry in (*held.get(name, ()), *held.get(f"{name}-bin", ())) if name else ():
        with suppress(OSError):
            programs.update(os.listdir(os.path.join(store, entry, "bin")))
    shown = (p for p in sorted(programs) if p.isprintable() and not p.startswith("."))
    return tuple(shown)[:_MOST]


def main() -> None:
    """Read the one file and write the other."""
    kind, folder, store = sys.argv[1:]
    with open(os.path.join(folder, kind), "rb") as file:
        content = file.read()
    with open(os.path.join(folder, "made"), "wb") as file:
        file.write(make(kind, content, store))


if __name__ == "__main__":
    main()
