"""Search paths of interpreters for libraries that are named together with them.

A set whose interpreters can make environments of themselves and libraries needs nothing of this;
for any other set, variables lead to the libraries in the root file system.
"""

import re
from collections.abc import Iterable, Iterator, Sequence

import attrs

from nixery.model.closure import Root
from nixery.model.tree import Kind, Output


@attrs.frozen
class _Search:
    """A search path variable of a kind of interpreter.

    :param folder: what folders of libraries are called.
    :param entries: of the variable, for each folder.
    :param last: what is always the last entry.
    """

    variable: str
    folder: str
    separator: str = ":"
    entries: Sequence[str] = ("/{}",)
    last: str | None = None


_SEARCHES = {
    "python": [_Search("PYTHONPATH", r"lib/python3[^/]*/(site|dist)-packages")],
    "perl": [_Search("PERL5LIB", r"(lib|share)/perl5(/site_perl)?(/[0-9.]+)?")],
    "ruby": [_Search("GEM_PATH", r"lib/ruby/gems/[0-9.]+")],
    # An empty last entry stands for the places that the interpreter knows.
    "lua": [
        _Search("LUA_PATH", r"share/lua/[0-9.]+", ";", ("/{}/?.lua", "/{}/?/init.lua"), ""),
        _Search("LUA_CPATH", r"lib/lua/[0-9.]+", ";", ("/{}/?.so",), ""),
    ],
}


def search_paths(roots: Iterable[Root], outputs: Sequence[Output]) -> dict[str, str]:
    """The variables by which interpreters find the libraries of an image.

    :param roots: the packages of the image.
    :param outputs: what is in them.
    """
    paths: dict[str, set[str]] = {}
    for root in roots:
        if root.library:
            paths.setdefault(root.library, set()).update(root.paths)
    variables = {}
    for kind, searches in _SEARCHES.items():
        own = [output for output in outputs if output.path in paths.get(kind, ())]
        for search in searches:
            entries = sorted({e for output in own for e in _entries(search, output)})
            if entries:
                last = [] if search.last is None else [search.last]
                variables[search.variable] = search.separator.join([*entries, *last])
    return variables


def _entries(search: _Search, output: Output) -> Iterator[str]:
    for name, item in output.listing.items():
        if item.kind is Kind.FOLDER and re.fullmatch(search.folder, name):
            yield from (entry.format(name) for entry in search.entries)
