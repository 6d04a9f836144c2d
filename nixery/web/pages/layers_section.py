"""The layers of an image: what is in them, and which other images have them."""

from array import array
from collections.abc import Container, Iterable, Mapping, Sequence
from itertools import groupby

import attrs
from twisted.web.template import Tag, tags

from nixery.model.closure import store_name
from nixery.model.contents import Contents, split_name
from nixery.model.image_summary import PREFIX, ImageSummary
from nixery.model.manifest import Descriptor
from nixery.model.text import cut, readable
from nixery.web.pages.fragments import measure, query_of, size, table
from nixery.web.pages.page import Content
from nixery.web.pages.svg import picture, shape

_SHOWN = 16
_NARROW = 0.015  # of the whole: narrower layers are drawn together
_NAMED = 4  # store paths of a layer
_SHARING = 2  # images that are named


@attrs.frozen(eq=False)
class Sharing:
    """Which of some other images have which layers.

    :param others: prefix of a layer's digest, as a number → the images that have it.
    :param compared: how many images were looked at.
    """

    others: Mapping[int, Sequence[ImageSummary]]
    compared: int

    @classmethod
    def of(
        cls, layers: Iterable[Descriptor], own: Container[str], images: Sequence[ImageSummary]
    ) -> "Sharing":
        """Look for the layers of one image in others. It takes some milliseconds for 500.

        :param own: digests of the image itself, and of its index, which do not count.
        """
        found: dict[int, list[ImageSummary]] = {_prefix(layer): [] for layer in layers}
        others = [image for image in images if image.digest not in own]
        for image in others:
            for prefix in found.keys() & _numbers(image.blobs):
                found[prefix].append(image)
        return cls(found, len(others))

    def having(self, layer: Descriptor) -> Sequence[ImageSummary]:
        """The other images that have a layer."""
        return self.others.get(_prefix(layer), ())


def layers_section(
    layers: Sequence[Descriptor], contents: Contents | None, sharing: Sharing, platform: str
) -> Tag:
    """The part of an image's page that is about its layers.

    :param layers: the lowest first.
    :param platform: of an index, the one that is shown: links stay with it.
    """
    shared = sum(layer.size for layer in layers if sharing.having(layer))
    total = sum(layer.size for layer in layers)
    others = f"{size(shared)} also in other images here"
    held = _held(layers, contents)
    ranked = sorted(enumerate(layers, 1), key=lambda item: -item[1].size)
    most = max((layer.size for layer in layers), default=0) or 1
    rows = [_row(layer, held, sharing, most) for _, layer in ranked[:_SHOWN]]
    columns = ("Contents", "Size", "Also in")
    more: Content = None
    if len(layers) > _SHOWN:
        rest = sum(layer.size for _, layer in ranked[_SHOWN:])
        more = tags.p(
            f"{len(layers) - _SHOWN} smaller layers, {size(rest)} together. ",
            tags.a("All layers as text", href=query_of(show="layers", platform=platform)),
            class_="small soft",
        )
    return tags.section(
        tags.h2("Layers"),
        tags.p(f"{len(layers)} layers, {size(total)} to pull: ", class_="soft")(
            _swatch("common"), others, ", ", _swatch("own"), f"{size(total - shared)} in none."
        ),
        tags.figure(_strip(layers, held, sharing), class_="strip"),
        table("Layers, the largest first", columns, rows),
        more or "",
        id="layers",
    )


def layers_text(layers: Sequence[Descriptor], contents: Contents | None) -> str:
    """All layers with their store paths, the lowest first, as text."""
    paths = _paths(contents)
    lines = []
    for number, layer in enumerate(layers, 1):
        lines.append(f"{number:>3} {layer.size:>14} {layer.digest}\n")
        lines += [f"{'':19}{readable(path)}\n" for path in paths.get(str(layer.digest), ())]
    return "".join(lines)


def _paths(contents: Contents | None) -> Mapping[str, Sequence[str]]:
    layers = contents.layers if contents is not None else ()
    return {layer.digest: layer.paths for layer in layers}


def _held(layers: Sequence[Descriptor], contents: Contents | None) -> dict[str, str]:
    """The names of what is in each layer, the largest first, as far as known."""
    paths = _paths(contents)
    sizes = {facts.path: facts.size for facts in contents.paths} if contents is not None else {}
    return {
        str(layer.digest): _names(sorted(paths[str(layer.digest)], key=lambda p: -sizes.get(p, 0)))
        for layer in layers
        if str(layer.digest) in paths
    }


def _names(paths: Sequence[str]) -> str:
    if not paths:
        return "root file system"
    names = [split_name(store_name(path))[0] for path in paths]
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return readable(", ".join(names[:_NAMED])) + more


def _strip(layers: Sequence[Descriptor], held: Mapping[str, str], sharing: Sharing) -> Tag:
    """All layers beside each other, as wide as they are large; the table says the same."""
    total = sum(layer.size for layer in layers) or 1
    parts, at = list[Tag | str](), 0

    def runs(layer: Descriptor) -> tuple[bool, str]:
        digest = str(layer.digest) if layer.size >= _NARROW * total else ""
        return bool(sharing.having(layer)), digest

    for (is_shared, digest), run in groupby(layers, runs):
        some = list(run)
        count = sum(layer.size for layer in some)
        name = cut(held.get(digest, "a layer"), 50) if digest else f"{len(some)} small layers"
        shared = "also in other images" if is_shared else "in no other image"
        parts.append(
            shape(
                "rect",
                shape("title", f"{name}: {size(count)}, {shared}"),
                x=f"{at / total:.2%}",
                width=f"{count / total:.2%}",
                height="100%",
                class_="common" if is_shared else "own",
            )
        )
        at += count
    return picture("layers", *parts)


def _row(
    layer: Descriptor, held: Mapping[str, str], sharing: Sharing, most: int
) -> tuple[Tag | str, ...]:
    """
    :param most: bytes of the largest layer.
    """
    having, digest = sharing.having(layer), str(layer.digest)
    kind = "common" if having else "own"
    bar = shape("rect", width=f"{layer.size / most:.2%}", height="100%", class_=kind)
    contents = held.get(digest) or tags.code(digest[7:19])
    share = tags.span(measure(layer.size), picture("share", bar), class_="measured")
    return contents, share, _also(having)


def _swatch(kind: str) -> Tag:
    return tags.span(class_=f"swatch {kind}", **{"aria-hidden": "true"})


def _also(having: Sequence[ImageSummary]) -> Tag | str:
    if not having:
        return tags.span("no other image", class_="soft")
    links: list[Tag | str] = []
    for image in having[:_SHARING]:
        links += [", ", tags.a(readable(image.name), href=f"/images/{image.name}:{image.tag}")]
    more = len(having) - _SHARING
    return tags.span(*links[1:], f" and {more} more" if more > 0 else "")


def _prefix(layer: Descriptor) -> int:
    return _numbers(layer.digest.hex[:PREFIX])[0]


def _numbers(prefixes: str) -> "array[int]":
    """Prefixes of digests, one after the other, as numbers, which are found in a set of numbers in
    a quarter of the time: each of their eight digits is a byte of one."""
    whole = len(prefixes) // PREFIX * PREFIX
    return array("Q", prefixes[:whole].encode("ascii", "replace"))
