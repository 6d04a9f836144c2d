"""The start page: the next pull, and what is served."""

from collections.abc import Sequence

import attrs
from twisted.web.template import Tag, tags

from nixery.history.summary import BuildHead
from nixery.interfaces import Provenance
from nixery.model.image import META
from nixery.model.tags import LATEST
from nixery.model.text import readable
from nixery.web.pages.fragments import age, build_link, command, image_link, size, table
from nixery.web.pages.page import Page


@attrs.frozen
class Wish:
    """An image in the making, as a form has it.

    :param packages: their names, with spaces between them.
    """

    packages: str = ""
    shell: bool = False
    arm64: bool = False
    tag: str = LATEST

    @property
    def name(self) -> str:
        """The image's name and tag; ``shell`` alone if no package is chosen."""
        words = self.packages.lower().replace("/", " ").split()
        chosen = {word for word, on in (("shell", self.shell), ("arm64", self.arm64)) if on}
        # Those that stand for no package come first.
        meta = [word for word in META if word in chosen.union(words)]
        path = [*meta, *(word for word in words if word not in META)]
        return readable(f"{'/'.join(path) or 'shell'}:{self.tag.strip() or LATEST}")


@attrs.frozen
class Start:
    """The contents of the start page.

    :param host: of the registry, as the client names it.
    :param provenance: what ``latest`` is at the moment.
    :param fault: why that is unknown.
    :param running: builds, the latest first.
    :param images: that were made, the latest first, with the bytes of their blobs.
    :param example: the name of an image to pull.
    :param wish: the contents of the form.
    """

    host: str
    provenance: Provenance | None
    fault: str
    running: Sequence[BuildHead]
    images: Sequence[tuple[BuildHead, int]]
    example: str
    wish: Wish = Wish()


def start_page(start: Start) -> Page:
    """The page for browsers."""
    body = [
        tags.h1("Container images made on demand"),
        tags.p("Name the packages in the image's name, and pull."),
        command(f"docker pull {start.host}/{start.example}", "The command that pulls an example"),
        _builder(start.host, start.wish),
        tags.h2("What is served"),
        _served(start),
        tags.h2("Builds running now"),
        _running(start.running),
        tags.h2("Recent images"),
        _images(start.images),
    ]
    return Page("Nixery: container images made on demand", body, script="start.js")


def start_text(start: Start) -> str:
    """The page for terminals."""
    lines = [
        "Nixery: container images made on demand.",
        "",
        "Name packages, and pull:",
        "",
        f"    docker pull {start.host}/{start.example}",
        f"    docker run -ti {start.host}/{start.example}",
        "",
        'The image holds the packages in its name; "shell" stands for bash and basic',
        'tools. "arm64/hello" is for 64-bit ARM; "python3packages.six" is a nested',
        "package.",
        "",
    ]
    if start.provenance is not None:
        lines += [f"Source:   {readable(start.provenance.source)}"]
        lines += [f"Revision: {readable(start.provenance.revision)}", ""]
    if start.running:
        lines += ["Builds running now, to follow with curl -N:", ""]
        lines += [f"    {start.host}/builds/{head.id}/log" for head in start.running]
        lines += [""]
    if start.images:
        lines += ["Recent images:", ""]
        lines += [
            f"    {size(count):>8}  {age(head.ended or head.started):>14}  "
            f"{readable(head.name)}:{readable(head.tag)}"  # whole, to be pulled, however long
            for head, count in start.images
        ]
        lines += [""]
    return "\n".join(lines)


def _builder(host: str, wish: Wish) -> Tag:
    """The form that makes an image's name of packages, by a script or when it is sent."""
    image = f"{host}/{wish.name}"
    return tags.form(
        tags.h2("Build an image name"),
        tags.label("Packages, separated by spaces", for_="packages"),
        _text("packages", wish.packages),
        tags.div(
            _choice("shell", "shell: bash and more", wish.shell),
            _choice("arm64", "arm64: for 64-bit ARM", wish.arm64),
            class_="choices",
        ),
        tags.label("Tag", for_="tag"),
        _text("tag", wish.tag),
        tags.noscript(tags.p(tags.button("Build the name", type="submit"))),
        tags.div(id="found", **{"aria-live": "polite"}),
        tags.div(
            tags.h3("Pull it"),
            command(f"docker pull {image}", "The command that pulls the image"),
            tags.h3("Build on it"),
            command(f"FROM {image}", "The first line of a Dockerfile"),
            id="results",
        ),
        id="builder",
        action="/",
        **{"data-host": host, "data-meta": " ".join(META)},
    )


def _text(name: str, value: str) -> Tag:
    field = tags.input(id=name, name=name, type="text", value=readable(value))
    return field(autocomplete="off", spellcheck="false")


def _choice(name: str, text: str, on: bool) -> Tag:
    box = tags.input(type="checkbox", id=name, name=name)
    return tags.label(box(checked="") if on else box, f" {text}")


def _served(start: Start) -> Tag:
    if start.provenance is None:
        return tags.p("The package source can't be read at the moment: ", readable(start.fault))
    stale = " (the last that is known: it can't be reached at the moment)"
    return tags.dl(
        tags.dt("Source"),
        tags.dd(readable(start.provenance.source)),
        tags.dt("Revision of the tag latest"),
        tags.dd(
            tags.code(readable(start.provenance.revision)),
            stale if start.provenance.stale else "",
        ),
    )


def _running(running: Sequence[BuildHead]) -> Tag:
    if not running:
        return tags.p("None.")
    return tags.ul(*[tags.li(build_link(head), f", begun {age(head.started)}") for head in running])


def _images(images: Sequence[tuple[BuildHead, int]]) -> Tag:
    if not images:
        return tags.p("None yet.")
    rows = [
        (image_link(head), size(count), age(head.ended or head.started)) for head, count in images
    ]
    return table("Images made recently", ("Image", "Size", "Made"), rows)
