"""The part of the start page in which an image is named: a field, and the commands that pull it."""

from collections.abc import Sequence
from urllib.parse import quote

import attrs
from twisted.web.template import Tag, tags

from nixery.model.image_summary import ImageSummary
from nixery.model.text import readable
from nixery.model.typed_name import TypedName
from nixery.web.pages.fragments import image_link, made_ago
from nixery.web.pages.page import Content
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
    :param made: the image, if it was made already.
    :param ready: whether the package index is there; it is being made if it is not.
    """

    host: str
    over_http: bool
    typed: str
    name: TypedName
    example: str
    completions: Sequence[Completion] = ()
    unknown: Sequence[tuple[str, Sequence[Completion]]] = ()
    made: ImageSummary | None = None
    ready: bool = True


def naming_parts(naming: NamedImage) -> list[Content]:
    """The parts of the page that follow what is typed."""
    return [_suggestions(naming), made_part(naming)]


def name_field(naming: NamedImage) -> Tag:
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
        tags.noscript(tags.button("Show commands", type="submit")),
        class_="prompt",
    )
    help_ = tags.p(
        "Put a slash or a space between packages, and :tag at the end for another revision.",
        id="typed-help",
        class_="soft small",
    )
    return tags.form(
        tags.label("Packages or programs that you need", for_="typed", class_="label"),
        tags.div(prompt, _suggestions(naming), class_="field"),
        help_,
        action="/",
        id="naming",
    )


def _suggestions(naming: NamedImage) -> Tag:
    options = []
    for number, each in enumerate(naming.completions):
        option = tags.li(
            tags.b(readable(each.text)),
            tags.span(readable(each.note)) if each.note else "",
            tags.small(readable(each.about)) if each.about else "",
            id=f"option-{number}",
            role="option",
        )
        options.append(option(**{"aria-selected": "false", "data-typed": each.typed}))
    label = {"aria-label": "Suggestions", **({} if naming.ready else {"data-again": ""})}
    return tags.ul(*options, id="suggestions", role="listbox", hidden="", **label)


def made_part(naming: NamedImage) -> Tag:
    """The commands that use the image that is named, or what is wrong with its name."""
    part = tags.div(id="made", class_="stack card")
    if fault := naming.name.fault:
        return part(tags.p(readable(fault), class_="fault"))
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
    if not naming.ready:
        return tags.p("The package index is being built; suggestions appear in a moment.")
    if not named:
        return tags.p("For example:", class_="soft")
    if naming.made is None:
        return tags.p(tags.strong("New."), " It is made on its first pull.", class_="soft")
    made = naming.made
    return tags.p(tags.strong("Ready."), f" Made {made_ago(made)}: ", image_link(made))


def _typed(text: str) -> str:
    return f"/?q={quote(text)}"
