"""``python -m nixery.search.indexing KIND FOLDER STORE``: make a package index.

A process of its own: for a large set it takes many seconds, in which the daemon's threads would
keep one another waiting. In the folder is a file ``told``, of lines that ``nix/index.nix`` told,
or ``index``, an index whose programs may be others by now. The file ``made`` beside it is the
result, empty if that is the same as before.
"""

import os
import sys

from nixery.model.package_set import parse_told, with_image_names
from nixery.search.programs import with_programs
from nixery.search.ranking import Index


def make(kind: str, content: bytes, store: str) -> bytes:
    """Make an index.

    :param kind: of the content: ``told`` or ``index``.
    :param store: the folder with the store paths.
    :return: the index as it is dumped; nothing if it is the same as before.
    """
    if kind == "told":
        packages = with_image_names(parse_told(content.split(b"\n")))
        return Index.of(with_programs(packages, store)).dump()
    before = list(Index.load(content).all_packages())
    after = with_programs(before, store)
    return b"" if after == before else Index.of(after).dump()


def main() -> None:
    """Read the one file and write the other."""
    kind, folder, store = sys.argv[1:]
    with open(os.path.join(folder, kind), "rb") as file:
        content = file.read()
    with open(os.path.join(folder, "made"), "wb") as file:
        file.write(make(kind, content, store))


if __name__ == "__main__":
    main()
