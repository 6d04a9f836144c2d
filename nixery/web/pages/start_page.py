"""The start page: a name that is typed, the commands that pull it, and what happens here."""

from collections.abc import Sequence
from urllib.parse import quote

import attrs
from twisted.web.template import Tag, tags

from nixery.history.summary import BuildHead
from nixery.interfaces import Provenance
from nixery.model.text import readable
from nixery.model.typed_name import META_PACKAGES, TypedName
from nixery.web.pages.fragments import age, badge, build_link, facts, image_link, size, table
from nixery.web.pages.page import Content, Page
from nixery.web.pages.usage import Usage, usage_tabs


@attrs.frozen
class Completion:
    """Something that may be meant by what is typed.

    :param text: the word.
    :param typed: what is in the field when it is chosen.
    :param note: beside the word, such as a version.
    :param about: a line about it.
    """

    text: str
    typed: str
    note: str = ""
    about: str = ""


@attrs.frozen
class NamedImage:
    """An image that is being named.

    :param host: of the registry, as the client names it.
    :param over_http: whether the client asked without TLS.
    :param typed: what the field has.
    :param name: that, understood.
    :param example: the name of an image that can be pulled.
    :param completions: of the last word.
    :param unknown: words that no package seems to have, each with names that may be meant.
    :param made: the last build of the image, if it was made already.
    """

    host: str
    over_http: bool
    typed: str
    name: TypedName
    example: str
    completions: Sequence[Completion] = ()
    unknown: Sequence[tuple[str, Sequence[Completion]]] = ()
    made: BuildHead | None = None


@attrs.frozen
class Activity:
    """What happens, and has happened.

    :param running: builds, the latest first, each with its state and the clients that wait for it.
    :param images: that were made, the latest first, with the bytes of their blobs.
    """

    running: Sequence[tuple[BuildHead, str, int]] = ()
    images: Sequence[tuple[BuildHead, int]] = ()


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
            "Name the packages in the image’s name, and pull. What is missing is built first; "
            "layers are shared between images.",
            class_="lead",
        ),
        _field(start.naming),
        made_part(start.naming),
        class_="hero",
    )
    about = tags.div(_names(start.naming.example), _served(start), class_="columns")
    body = [hero, activity_part(start.activity), about]
    return Page("Nixery: container images made on demand", body, script="start.js")


def naming_parts(naming: NamedImage) -> list[Content]:
    """The parts of the page that follow what is typed."""
    return [_suggestions(naming.completions), made_part(naming)]


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
            f"    {size(count):>8}  {age(head.ended or head.started):>14}  "
            f"{readable(head.name)}:{readable(head.tag)}"  # whole, to be pulled, however long
            for head, count in start.activity.images
        ]
        lines += [""]
    return "\n".join(lines)


# --- the name -----------------------------------------------------------------------------


def _field(naming: NamedImage) -> Tag:
    """The field to type a name in: a combobox, https://www.w3.org/WAI/ARIA/apg/patterns/combobox/.

    Without scripts, it is sent, and the page comes again with the commands.
    """
    field = tags.input(
        *(), type="text", id="typed", name="q", value=readable(naming.typed), role="combobox"
    )
    field(
        placeholder=naming.example,
        autocomplete="off",
        autocapitalize="none",
        spellcheck="false",
        maxlength="300",
        **{
            "aria-autocomplete": "list",
            "aria-controls": "suggestions",
            "aria-expanded": "false",
            "aria-describedby": "typed-help",
        },
    )
    prompt = tags.div(
        tags.span(f"{naming.host}/", **{"aria-hidden": "true"}),
        field,
        tags.noscript(tags.button("Name it", type="submit")),
        class_="prompt",
    )
    help_ = tags.p(
        "Put a slash or a space between packages, and :tag at the end for another revision.",
        id="typed-help",
        class_="soft small",
    )
    return tags.form(
        tags.label("Packages, or programs that you need", for_="typed", class_="label"),
        tags.div(prompt, _suggestions(naming.completions), class_="field"),
        help_,
        action="/",
        id="naming",
    )


def _suggestions(completions: Sequence[Completion]) -> Tag:
    options = []
    for number, each in enumerate(completions):
        option = tags.li(
            tags.b(readable(each.text)),
            tags.span(readable(each.note)) if each.note else "",
            tags.small(readable(each.about)) if each.about else "",
            id=f"option-{number}",
            role="option",
        )
        options.append(option(**{"aria-selected": "false", "data-typed": each.typed}))
    label = {"aria-label": "Suggestions"}
    return tags.ul(*options, id="suggestions", role="listbox", hidden="", **label)


def made_part(naming: NamedImage) -> Tag:
    """The commands that use the image that is named, or what is wrong with its name."""
    part = tags.div(id="made", class_="stack card", **{"aria-live": "polite"})
    if fault := naming.name.fault:
        return part(tags.p(readable(fault), class_="fault cause"))
    named = bool(naming.name.words)
    name = naming.name.name if named else naming.example
    first = name.partition(":")[0].split("/")
    shell = "bash" if {"shell", "ci"} & set(first) else ""
    usage = Usage(
        f"{naming.host}/{name.removesuffix(':latest')}",
        ("",) if shell else (),
        bool(shell),
        shell,
        naming.over_http,
    )
    return part(*_unknown(naming), _state(naming, named), usage_tabs(usage))


def _unknown(naming: NamedImage) -> list[Tag]:
    """What can be said of words that no package seems to have."""
    said = []
    for word, meant in naming.unknown:
        said.append(tags.p(f"No package is called {readable(word)}", class_="hint"))
        if meant:
            links = [tags.a(each.text, href=_typed(each.typed)) for each in meant]
            joined = [part for link in links for part in (", ", link)][1:]
            said[-1]("; did you mean ", *joined, "?")
        else:
            said[-1](" in the index of the package set.")
    return said


def _state(naming: NamedImage, named: bool) -> Tag:
    if not named:
        return tags.p("For example:", class_="soft")
    if naming.made is None:
        return tags.p(tags.strong("New."), " It is made when it is pulled first.", class_="soft")
    made = naming.made
    return tags.p(
        tags.strong("Ready."), f" Made {age(made.ended or made.started)}: ", image_link(made)
    )


def _typed(text: str) -> str:
    return f"/?q={quote(text)}"


# --- what happens, and what there is ------------------------------------------------------


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
        (image_link(head), size(count), age(head.ended or head.started))
        for head, count in activity.images
    ]
    parts = []
    if running:
        title = tags.div(tags.h2("Building now"), tags.a("All builds", href="/builds"))
        parts.append(tags.section(title(class_="row"), tags.ul(*running, class_="list")))
    if images:
        shown = table("Recent images", ("Image", "Size", "Made"), images)
        parts.append(tags.section(tags.h2("Recent images"), shown))
    return tags.div(*parts, id="activity", class_="columns")


def _waiting(head: BuildHead, waiting: int) -> str:
    clients = f", {waiting} client{'s' if waiting > 1 else ''} waiting" if waiting else ""
    return f"Begun {age(head.started)}{clients}"


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
    stale = " (the last that is known: it can't be reached at the moment)"
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
