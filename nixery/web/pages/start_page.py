"""The start page: a name that is typed, the commands that pull it, and what happens here."""

from collections.abc import Sequence

import attrs
from twisted.web.template import Tag, tags

from nixery.history.summary import BuildHead
from nixery.interfaces import Provenance
from nixery.model.image_summary import ImageSummary
from nixery.model.text import readable
from nixery.model.typed_name import META_PACKAGES
from nixery.web.pages.fragments import (
    age,
    badge,
    build_link,
    facts,
    image_link,
    made_ago,
    size,
    table,
)
from nixery.web.pages.naming_part import NamedImage, made_part, name_field
from nixery.web.pages.page import Page


@attrs.frozen
class Activity:
    """What happens, and has happened.

    :param running: builds, the latest first, each with its state and the clients that wait for it.
    :param images: that were made or pulled last.
    """

    running: Sequence[tuple[BuildHead, str, int]] = ()
    images: Sequence[ImageSummary] = ()


@attrs.frozen
class Start:
    """The contents of the start page.

    :param provenance: what ``latest`` is at the moment.
    :param fault: why that is unknown.
    :param tags: of the source; none if they are not known at the moment.
    """

    naming: NamedImage
    activity: Activity
    provenance: Provenance | None
    fault: str = ""
    tags: Sequence[str] = ()


def start_page(start: Start) -> Page:
    """The page for browsers."""
    hero = tags.section(
        tags.h1("Container images made on demand"),
        tags.p(
            "Put the packages into the image’s name, and pull. What is missing is built first; "
            "layers are shared between images.",
            class_="lead",
        ),
        name_field(start.naming),
        made_part(start.naming),
        class_="hero",
    )
    about = tags.div(_names(start.naming.example), _served(start), class_="columns")
    body = [hero, activity_part(start.activity), about]
    return Page("Nixery: container images made on demand", body, script="start.js")


def start_text(start: Start) -> str:
    """The page for terminals."""
    host, example = start.naming.host, start.naming.example
    lines = [
        "Nixery: container images made on demand.",
        "",
        "Name packages, and pull:",
        "",
        f"    docker pull {host}/{example}",
        f"    docker run -ti {host}/{example}",
        "",
        'The image holds the packages in its name; "shell" stands for bash and basic',
        'tools. "arm64/hello" is for 64-bit ARM; "python3packages.six" is a nested',
        "package.",
        "",
    ]
    if start.provenance is not None:
        lines += [f"Source:   {readable(start.provenance.source)}"]
        lines += [f"Revision: {readable(start.provenance.revision)}", ""]
    if start.activity.running:
        lines += ["Builds running now, to follow with curl -N:", ""]
        lines += [f"    {host}/builds/{head.id}/log" for head, _, _ in start.activity.running]
        lines += [""]
    if start.activity.images:
        lines += ["Recent images:", ""]
        lines += [
            f"    {size(image.size):>8}  {made_ago(image):>14}  "
            f"{readable(image.name)}:{readable(image.tag)}"  # whole, to be pulled, however long
            for image in start.activity.images
        ]
        lines += [""]
    return "\n".join(lines)


def activity_part(activity: Activity) -> Tag:
    """The builds that run, and the images made last."""
    running = [
        tags.li(
            tags.div(build_link(head), badge(state), class_="row"),
            tags.p(_waiting(head, waiting), class_="soft small"),
        )
        for head, state, waiting in activity.running
    ]
    images = [
        (image_link(image), size(image.size), str(image.pulls), made_ago(image))
        for image in activity.images
    ]
    parts = []
    if running:
        title = tags.div(tags.h2("Building now"), tags.a("All builds", href="/builds"))
        parts.append(tags.section(title(class_="row"), tags.ul(*running, class_="list")))
    if images:
        shown = table("Recent images", ("Image", "Size", "Pulls", "Made"), images)
        parts.append(tags.section(tags.h2("Recent images"), shown))
    return tags.div(*parts, id="activity", class_="columns")


def _waiting(head: BuildHead, waiting: int) -> str:
    clients = f", {waiting} client{'s' if waiting > 1 else ''} waiting" if waiting else ""
    return f"Started {age(head.started)}{clients}"


def _names(example: str) -> Tag:
    """What names can say, in short."""
    rows = [(tags.code(name), about) for name, about in META_PACKAGES.items()]
    rows += [
        (tags.code("python3packages.six"), "a package in a nested set"),
        (tags.code(f"{example}:TAG"), "of another revision of the package source"),
    ]
    more = tags.a("All about names", href="/docs/names")
    return tags.section(
        tags.div(tags.h2("Names"), more, class_="row"), table("Names", ("Name", "Stands for"), rows)
    )


def _served(start: Start) -> Tag:
    section = tags.section(tags.h2("Package source"), id="source")
    if start.provenance is None:
        return section(
            tags.p("The package source can't be read at the moment: ", readable(start.fault))
        )
    stale = " (the last one known: the source can't be reached at the moment)"
    shown = [tags.li(tags.code(readable(tag))) for tag in start.tags]
    return section(
        facts(
            [
                ("Source", readable(start.provenance.source)),
                (
                    "Revision",
                    tags.span(
                        tags.code(readable(start.provenance.revision)),
                        stale if start.provenance.stale else "",
                    ),
                ),
                ("Tags", tags.ul(*shown, class_="words") if shown else ""),
            ]
        )
    )
