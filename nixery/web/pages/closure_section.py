"""What an image is made of: a map of its closure, its largest store paths, and who needs them."""

from collections import Counter
from collections.abc import Mapping, Sequence

import attrs
from twisted.web.template import Tag, tags

from nixery.model.closure import store_name
from nixery.model.closure_map import Region, Tile, closure_map, needing
from nixery.model.contents import Contents, PathFacts, split_name
from nixery.model.dependencies import shortest_path
from nixery.model.text import cut, readable
from nixery.model.treemap import Rectangle
from nixery.web.pages.fragments import measure, query_of, size, table
from nixery.web.pages.page import Content
from nixery.web.pages.svg import picture, shape

_WHOLE = Rectangle(0, 0, 200, 100)
_TILES = 48
_LARGEST = 12
_OFFERED = 24  # names in the field that asks for one
_NAMED = 4  # packages that are named as those that need a store path
_WIDTHS = (("narrow", 330, 320), ("middle", 700, 360), ("broad", 1040, 460))
"""Widths and heights of the map, in pixels, from which on labels may fit: as in the stylesheet."""
_LETTER, _LINE, _EDGE = 7.2, 17, 14  # pixels of a letter, a line, and both edges


@attrs.frozen(eq=False)
class Closure:
    """An image's closure, with what is found out about it: it takes a while for a large one.

    :param needed: see :func:`nixery.model.closure_map.needing`.
    :param names: of each store path, one that no other has: without the hash where that will do.
    :param largest: the store paths, the largest first.
    """

    contents: Contents
    needed: Mapping[str, Sequence[str]]
    regions: Sequence[Region]
    names: Mapping[str, str]
    largest: Sequence[PathFacts]

    @classmethod
    def of(cls, contents: Contents) -> "Closure":
        """Look through the contents of an image. Blocks."""
        needed = needing(contents)
        regions = closure_map(contents, needed, _WHOLE, _TILES)
        largest = sorted(contents.paths, key=lambda facts: (-facts.size, facts.path))
        counts = Counter(store_name(facts.path) for facts in largest)
        names = {
            facts.path: name
            if counts[name := store_name(facts.path)] == 1
            else _base_name(facts.path)
            for facts in largest
        }
        return cls(contents, needed, regions, names, largest)

    @property
    def size(self) -> int:
        """Bytes of all store paths."""
        return sum(facts.size for facts in self.contents.paths)

    def find(self, name: str) -> PathFacts | None:
        """The largest store path of a name.

        :param name: a store path, its name with or without the version or the hash.
        """
        for names in (_base_name, store_name, lambda path: split_name(store_name(path))[0]):
            for facts in self.largest:
                if name in (facts.path, names(facts.path)):
                    return facts
        return None

    def way_to(self, path: str) -> list[str]:
        """The fewest references that lead from a package to a store path."""
        references = {facts.path: facts.references for facts in self.contents.paths}
        starts = [path for package in self.contents.packages for path in package.paths]
        return shortest_path(references, starts, path)


def closure_section(closure: Closure, asked: str, platform: str) -> list[Content]:
    """The parts of an image's page that are about its closure.

    :param asked: the store path that somebody wants explained; empty for the largest dependency.
    :param platform: of an index, the one that is shown: links stay with it.
    """
    count = len(closure.contents.paths)
    text = f"{count} store paths, {size(closure.size)} unpacked. "
    return [
        tags.section(
            tags.h2("What takes up space"),
            tags.p(
                text,
                "Colours mark what only one package needs; what several need is grey.",
                class_="soft",
            ),
            tags.figure(_picture(closure, platform), class_="map"),
            tags.div(_parts(closure), _largest(closure, platform), class_="columns"),
        ),
        _why(closure, asked, platform),
    ]


def paths_text(closure: Closure) -> str:
    """All store paths, the largest first, as text."""
    return "".join(f"{facts.size:>14} {readable(facts.path)}\n" for facts in closure.largest)


# --- the map ------------------------------------------------------------------------------


def _picture(closure: Closure, platform: str) -> Tag:
    """The map as SVG. Its places are parts of the whole in per cent, so that it takes any shape,
    while letters keep their size; screen readers have the tables instead."""
    cells = [
        _cell(tile, region, colour, closure, platform)
        for region, colour in zip(closure.regions, _colours(closure.regions), strict=True)
        for tile in region.tiles
    ]
    return picture("treemap", *cells)


def _colours(regions: Sequence[Region]) -> list[str]:
    """A class for each region."""
    names = iter(range(len(regions)))
    return [
        "shared" if region.shared else f"r{next(names)}" if len(region.names) == 1 else "rest"
        for region in regions
    ]


def _cell(tile: Tile, region: Region, colour: str, closure: Closure, platform: str) -> Tag:
    whole = store_name(tile.path) if tile.path else f"{tile.count} more"
    name = readable(split_name(whole)[0] if tile.path else whole)
    for_whom = _for_whom(closure.needed[tile.path]) if tile.path else _of_region(region)
    parts: list[Tag | str] = [
        shape("title", f"{readable(whole)}: {size(tile.size)}, needed by {for_whom}"),
        shape("rect", width="100%", height="100%", class_=colour),
    ]
    if fitting := _fitting(tile, len(name), 1):
        parts.append(shape("text", name, x="7", y="18", class_=fitting))
        if below := _fitting(tile, max(len(name), len(size(tile.size))), 2):
            parts.append(shape("text", size(tile.size), x="7", y="34", class_=f"{below} soft"))
    area = tile.rectangle
    cell = shape(
        "svg",
        *parts,
        x=f"{area.left / _WHOLE.width:.2%}",
        y=f"{area.top / _WHOLE.height:.2%}",
        width=f"{area.width / _WHOLE.width:.2%}",
        height=f"{area.height / _WHOLE.height:.2%}",
    )
    if not tile.path:
        return cell
    return shape("a", cell, href=_address(tile.path, closure, platform), tabindex="-1")


def _fitting(tile: Tile, letters: int, lines: int) -> str:
    """The class of a label, by how broad the map has to be for it; empty if it never fits."""
    broad, high = tile.rectangle.width / _WHOLE.width, tile.rectangle.height / _WHOLE.height
    for name, width, height in _WIDTHS:
        if broad * width >= letters * _LETTER + _EDGE and high * height >= lines * _LINE + 6:
            return name
    return ""


# --- the tables ---------------------------------------------------------------------------


def _parts(closure: Closure) -> Tag:
    rows = []
    coloured = zip(closure.regions, _colours(closure.regions), strict=True)
    for region, colour in sorted(coloured, key=lambda each: -each[0].size):
        swatch = tags.span(class_=f"swatch {colour}", **{"aria-hidden": "true"})
        name = tags.span(swatch, _of_region(region))
        rows.append((name, str(region.count), measure(region.size)))
    return table("Parts of the image", ("Needed by", "Store paths", "Size"), rows)


def _largest(closure: Closure, platform: str) -> Tag:
    rows = [
        (
            _why_link(facts.path, closure, platform),
            _for_whom(closure.needed[facts.path]),
            measure(facts.size),
        )
        for facts in closure.largest[:_LARGEST]
    ]
    shown = table("Largest store paths", ("Store path", "Needed by", "Size"), rows)
    rest = len(closure.contents.paths) - _LARGEST
    every = tags.p(
        tags.a("All store paths as text", href=query_of(show="paths", platform=platform)),
        class_="small",
    )
    return tags.div(shown, every if rest > 0 else "", class_="stack")


def _of_region(region: Region) -> str:
    match region.names:
        case ():
            return "several packages" if region.shared else "every image"
        case (name,):
            return f"{readable(name)} alone"
        case names:
            return f"{len(names)} other packages, one each"


def _for_whom(names: Sequence[str]) -> str:
    """The packages that need something, in words."""
    called = [readable(name) for name in names if name]
    if not called:
        return "every image"
    more = len(called) - _NAMED
    return ", ".join(called[:_NAMED]) + (f" and {more} more" if more > 0 else "")


# --- why something is there ---------------------------------------------------------------


def _why(closure: Closure, asked: str, platform: str) -> Tag:
    facts = closure.find(asked) if asked else _most_telling(closure)
    unknown = asked and facts is None
    parts: list[Content] = [
        tags.h2("Why is it there?"),
        _form(closure, asked or (store_name(facts.path) if facts else ""), platform),
        tags.p(f"No store path of this image is called {readable(asked)}.", class_="fault")
        if unknown
        else None,
    ]
    if facts is not None:
        way = closure.way_to(facts.path)
        sizes = {facts.path: facts.size for facts in closure.largest}
        steps = [_step(closure, path, sizes[path], at == 0) for at, path in enumerate(way)]
        whom = f"needed by {_for_whom(closure.needed[facts.path])}"
        parts += [
            tags.p(
                tags.code(readable(store_name(facts.path))),
                f", {size(facts.size)}, is {whom}. ",
                "It is one of the packages named."
                if len(way) == 1
                else "The shortest chain of references to it:",
            ),
            tags.ol(*steps, class_="chain") if len(way) > 1 else None,
        ]
    return tags.section(*(part for part in parts if part is not None), id="why")


def _most_telling(closure: Closure) -> PathFacts | None:
    """The largest store path that is no package's own."""
    own = {path for package in closure.contents.packages for path in package.paths}
    every = closure.largest
    return next((facts for facts in every if facts.path not in own), every[0] if every else None)


def _form(closure: Closure, name: str, platform: str) -> Tag:
    names = dict.fromkeys(store_name(facts.path) for facts in closure.largest[:_OFFERED])
    field = tags.input(type="text", name="why", id="why-name", value=readable(name), list="paths")
    kept = tags.input(type="hidden", name="platform", value=platform) if platform else ""
    return tags.form(
        kept,
        tags.label("Store path", for_="why-name", class_="label"),
        tags.div(
            field(autocomplete="off", spellcheck="false"),
            tags.button("Explain", type="submit"),
            class_="ask",
        ),
        tags.datalist(*[tags.option(value=readable(name)) for name in names], id="paths"),
        action="#why",
    )


def _step(closure: Closure, path: str, count: int, is_first: bool) -> Tag:
    named = (p.package for p in closure.contents.packages if path in p.paths)
    package = next(named, "") if is_first else ""
    before = (tags.strong(readable(package)), " ") if package else ()
    name = tags.code(readable(store_name(path)))
    return tags.li(*before, name, " ", tags.small(size(count)))


def _address(path: str, closure: Closure, platform: str) -> str:
    """Where it is explained why a store path is there."""
    return f"{query_of(why=closure.names[path], platform=platform)}#why"


def _why_link(path: str, closure: Closure, platform: str) -> Tag:
    return tags.a(readable(cut(store_name(path), 60)), href=_address(path, closure, platform))


def _base_name(path: str) -> str:
    return path.rpartition("/")[2]
