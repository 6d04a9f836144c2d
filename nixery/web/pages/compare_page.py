"""The page that has two images beside each other."""

from collections.abc import Mapping, Sequence
from urllib.parse import quote

import attrs
from twisted.web.template import Tag, tags

from nixery.model.comparison import Change, Difference, Versions, changes, to_pull
from nixery.model.contents import Contents, LayerFacts
from nixery.model.text import cut, readable
from nixery.web.pages.fragments import platform_links, query_of, size, table
from nixery.web.pages.page import Content, Page

_SHOWN = 150  # names in a list
_TITLES = {
    Difference.UPGRADED: "Upgraded",
    Difference.DOWNGRADED: "Downgraded",
    Difference.ADDED: "Added",
    Difference.REMOVED: "Removed",
    Difference.REBUILT: "Rebuilt, same version",
}


@attrs.frozen(eq=False)
class Side:
    """One of the two images.

    :param label: its name with tag or digest.
    :param contents: nothing if an older version made it.
    :param layers: that it has.
    :param system: its platform.
    :param platform: of an index, the one that is compared; empty for an image of one.
    """

    label: str
    contents: Contents | None
    layers: Sequence[LayerFacts]
    system: str
    platform: str


@attrs.frozen(eq=False)
class Comparison:
    """The differences of two images.

    :param changes: of store paths, by their kinds in the order of the page, and each kind with
        those of most bytes first; none if the contents of one image are not known.
    :param pulled: the layers that a client of the first pulls for the second.
    :param platforms: for which there are both images.
    """

    before: Side
    after: Side
    changes: Mapping[Difference, Sequence[Change]]
    pulled: Sequence[LayerFacts]
    platforms: Sequence[str]

    @classmethod
    def of(cls, before: Side, after: Side, platforms: Sequence[str]) -> "Comparison":
        """Compare two images. It takes a while for large ones."""
        found: dict[Difference, list[Change]] = {difference: [] for difference in _TITLES}
        if before.contents is not None and after.contents is not None:
            for change in changes(before.contents.paths, after.contents.paths):
                found[change.difference].append(change)
        for each in found.values():
            each.sort(key=lambda change: -abs(change.growth))
        by_kind = {difference: each for difference, each in found.items() if each}
        return cls(before, after, by_kind, to_pull(before.layers, after.layers), platforms)

    @property
    def bytes(self) -> int:
        """The compressed bytes that are pulled."""
        return sum(layer.size for layer in self.pulled)


def compare_page(comparison: Comparison) -> Page:
    """The page for browsers."""
    before, after = comparison.before, comparison.after
    body: list[Content] = [
        tags.section(
            tags.h1("Compare images"),
            tags.p(_link(before), " → ", _link(after), class_="lead"),
            _platforms(comparison),
            compare_form(before.label, after.label),
            class_="stack",
        ),
        _in_short(comparison),
        *(_list(*each) for each in comparison.changes.items()),
    ]
    if before.contents is None or after.contents is None:
        text = "An older version of Nixery made one of them, and kept no record of what is in it."
        body.append(tags.p(text, class_="note"))
    elif not comparison.changes:
        body.append(tags.p("Both have the same store paths.", class_="note"))
    return Page(f"{before.label} and {after.label}", body)


def compare_text(comparison: Comparison) -> str:
    """The page for terminals."""
    before, after = (readable(side.label) for side in (comparison.before, comparison.after))
    lines = [f"{before} -> {after}", "", _pulled(comparison)]
    for difference, found in comparison.changes.items():
        lines += ["", f"{_TITLES[difference]}: {len(found)}", ""]
        lines += [
            f"    {cut(readable(c.name), 30):30} {cut(_versions(c), 30):30} {_growth(c)}"
            for c in found
        ]
    return "\n".join([*lines, ""])


def ask_page(before: str, after: str, fault: str = "") -> Page:
    """The page that asks which images to compare.

    :param fault: what is wrong with those that were named.
    """
    body: list[Content] = [
        tags.h1("Compare images"),
        tags.p(
            "Packages added, removed or upgraded, and how much there is to pull.",
            class_="lead",
        ),
        tags.p(readable(fault), class_="fault") if fault else None,
        compare_form(before, after),
    ]
    return Page("Compare images", body)


def compare_form(before: str, after: str) -> Tag:
    """The form that names two images."""
    fields = []
    for name, label, value in (("from", "From", before), ("to", "To", after)):
        field = tags.input(type="text", name=name, id=f"compare-{name}", value=readable(value))
        field(autocomplete="off", spellcheck="false", placeholder="NAME:TAG", required="")
        fields.append(tags.div(tags.label(label, for_=f"compare-{name}", class_="label"), field))
    button = tags.button("Compare", type="submit", class_="primary")
    return tags.form(*fields, button, action="/compare", class_="pair")


def _link(side: Side) -> Tag:
    query = query_of(platform=side.platform).rstrip("?")
    address = f"/images/{quote(side.label, safe='/:@')}{query}"
    return tags.a(tags.code(readable(side.label)), href=address)


def _platforms(comparison: Comparison) -> Tag | str:
    """The platforms to choose from, or those of two images for different ones."""
    before, after = comparison.before, comparison.after
    if before.system != after.system:
        text = f"They are for different platforms: {before.system} and {after.system}."
        return tags.p(readable(text), class_="note")
    if len(comparison.platforms) < 2:
        return ""
    names = {"from": before.label, "to": after.label}
    return tags.p("Platform: ", platform_links(comparison.platforms, before.system, **names))


def _in_short(comparison: Comparison) -> Tag:
    counts = [
        tags.li(tags.strong(str(len(found))), f" {difference.value}")
        for difference, found in comparison.changes.items()
    ]
    growth = sum(change.growth for found in comparison.changes.values() for change in found)
    sizes = f" Unpacked, the difference is {_signed(growth)}." if growth else ""
    return tags.div(
        tags.p("A client with the first image has ", tags.strong(_pulled(comparison)), ".", sizes),
        tags.ul(*counts, class_="counts") if counts else "",
        class_="card",
    )


def _pulled(comparison: Comparison) -> str:
    number = len(comparison.pulled)
    if not number:
        return "nothing to pull"
    return f"{size(comparison.bytes)} to pull, in {number} layer{'s' if number > 1 else ''}"


def _list(difference: Difference, found: Sequence[Change]) -> Content:
    title = _TITLES[difference]
    rows = [
        (tags.code(readable(c.name)), _versions(c), tags.span(_growth(c), class_="measure"))
        for c in found[:_SHOWN]
    ]
    rest = len(found) - _SHOWN
    text = f"{rest} smaller ones are not shown; opened from a terminal, this page lists them all."
    more = tags.p(text, class_="small soft") if rest > 0 else ""
    shown = table(title, ("Name", "Version", "Size"), rows)
    return tags.section(tags.h2(title), shown, more)


def _versions(change: Change) -> str:
    before, after = (_numbers(each) for each in (change.before, change.after))
    if not change.before.paths or not change.after.paths or before == after:
        return before or after
    return f"{before or 'no version'} → {after or 'no version'}"


def _numbers(versions: Versions) -> str:
    return readable(cut(", ".join(number for number in versions.numbers if number), 60))


def _growth(change: Change) -> str:
    """The size of what came or went, or by how much something grew."""
    if not change.before.paths or not change.after.paths:
        return size(max(change.before.size, change.after.size))
    return _signed(change.growth)


def _signed(growth: int) -> str:
    sign = "+" if growth > 0 else "−" if growth < 0 else "±"
    return f"{sign}{size(abs(growth))}"
