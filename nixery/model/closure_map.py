"""The map of an image's closure: which package needs how much, and what makes it big."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import attrs

from nixery.model.contents import Contents, PathFacts
from nixery.model.dependencies import needed_by
from nixery.model.image import ALWAYS, parse_image
from nixery.model.treemap import Rectangle, squarified

_MOST_REGIONS = 6  # of single packages
_LEAST = 0.001  # of the whole: smaller tiles could not be seen


@attrs.frozen
class Tile:
    """A store path in the map, or the small ones of a region together.

    :param path: a store path; empty for several.
    :param count: store paths.
    :param size: bytes of their NAR serialisations.
    """

    rectangle: Rectangle
    path: str
    count: int
    size: int


@attrs.frozen
class Region:
    """What one package alone needs of the closure, or what several need.

    :param names: the parts of the image's name that alone need something of it: one, or those of
        the smallest regions together; none for what several need, and for what every image has.
    :param shared: whether several need it.
    :param count: store paths.
    :param size: bytes of their NAR serialisations.
    """

    names: tuple[str, ...]
    shared: bool
    count: int
    size: int
    tiles: Sequence[Tile]


def asked_names(contents: Contents) -> list[str]:
    """For each package of an image, the part of the image's name that it comes with; empty for
    those that every image has."""
    image = parse_image(contents.name, contents.tag)
    return [
        image.meta_of(each.package) or ("" if each.package in ALWAYS else each.package)
        for each in contents.packages
    ]


def needing(contents: Contents) -> dict[str, list[str]]:
    """The parts of an image's name that need each store path: see :func:`asked_names`."""
    roots: defaultdict[str, list[str]] = defaultdict(list)
    for name, package in zip(asked_names(contents), contents.packages, strict=True):
        roots[name] += package.paths
    references = {facts.path: facts.references for facts in contents.paths}
    names, masks = list(roots), needed_by(references, list(roots.values()))
    named = {
        mask: [name for number, name in enumerate(names) if mask >> number & 1]
        for mask in set(masks.values())
    }
    return {facts.path: named[masks[facts.path]] for facts in contents.paths}


def closure_map(
    contents: Contents, needed: Mapping[str, Sequence[str]], whole: Rectangle, most: int
) -> list[Region]:
    """Lay a closure out.

    :param needed: see :func:`needing`.
    :param most: tiles of single store paths; the rest of each region is one tile.
    :return: the regions of single packages, the greatest first, then those of the other packages,
        of what every image has, and of what several need.
    """
    held: defaultdict[str, list[PathFacts]] = defaultdict(list)
    shared: list[PathFacts] = []
    for facts in contents.paths:
        names = needed[facts.path]
        (shared if len(names) > 1 else held["".join(names)]).append(facts)
    always = held.pop("", [])
    alone = sorted(held.items(), key=lambda item: (-_size(item[1]), item[0]))
    shown: list[tuple[tuple[str, ...], bool, list[PathFacts]]] = [
        ((name,), False, paths) for name, paths in alone[:_MOST_REGIONS]
    ]
    if small := alone[_MOST_REGIONS:]:
        others = [facts for _, paths in small for facts in paths]
        shown.append((tuple(name for name, _ in small), False, others))
    shown += [((), is_shared, p) for is_shared, p in ((False, always), (True, shared)) if p]
    ranked = sorted(contents.paths, key=lambda facts: -facts.size)[:most]
    least = _LEAST * _size(contents.paths)
    big = {facts.path for facts in ranked if facts.size >= least}
    areas = _placed([_size(paths) for _, _, paths in shown], whole)
    return [
        Region(names, is_shared, len(paths), _size(paths), _tiles(paths, big, area))
        for (names, is_shared, paths), area in zip(shown, areas, strict=True)
    ]


def _tiles(paths: Sequence[PathFacts], big: set[str], area: Rectangle) -> list[Tile]:
    shown = sorted((facts for facts in paths if facts.path in big), key=lambda f: (-f.size, f.path))
    rest = [facts for facts in paths if facts.path not in big]
    parts = [(facts.path, 1, facts.size) for facts in shown]
    if len(rest) == 1:
        parts.append((rest[0].path, 1, rest[0].size))
    elif rest:
        parts.append(("", len(rest), _size(rest)))
    places = _placed([size for _, _, size in parts], area)
    return [Tile(place, *part) for place, part in zip(places, parts, strict=True)]


def _placed(sizes: Sequence[int], area: Rectangle) -> list[Rectangle]:
    """The places of sizes in an area, whatever their order."""
    order = sorted(range(len(sizes)), key=lambda number: -sizes[number])
    places = squarified([max(sizes[number], 1) for number in order], area)
    return [place for _, place in sorted(zip(order, places, strict=True), key=lambda e: e[0])]


def _size(paths: Sequence[PathFacts]) -> int:
    return sum(facts.size for facts in paths)
