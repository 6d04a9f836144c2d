"""Which programs packages have, as far as the Nix store holds them already."""

import os
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress

import attrs

from nixery.model.package_set import Package

_HASH = 33  # characters before a store path's name
_MOST = 500  # programs of a package


def with_programs(packages: Sequence[Package], store: str) -> list[Package]:
    """The packages, with the programs of those of their name that the store holds.

    The name with its version is enough: where the store has that of another revision, its
    programs are the same but for rare exceptions. Nothing is evaluated for it. It reads as many
    folders as the store has of the packages: not for the reactor's thread.

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
