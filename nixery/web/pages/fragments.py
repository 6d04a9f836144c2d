"""Parts of several pages, and numbers as people read them."""

import time
from collections.abc import Iterable, Sequence
from urllib.parse import urlencode

from twisted.web.template import Tag, tags

from nixery.history.summary import BuildHead
from nixery.model.image_summary import ImageSummary
from nixery.model.text import readable

_UNITS = ("B", "kB", "MB", "GB", "TB")
_SHORT = 20  # characters
_STEPS = (("day", 86400), ("hour", 3600), ("minute", 60))


def command(text: str, label: str) -> Tag:
    """A command to copy.

    :param label: for screen readers.
    """
    button = tags.button("Copy", type="button", class_="copy", **{"aria-label": f"Copy: {label}"})
    shown = tags.pre(tags.code(*breakable(text)))
    return tags.div(shown, button, class_="command", role="group", **{"aria-label": label})


def breakable(text: str) -> Sequence[Tag | str]:
    """A text that may go on in another line behind a slash."""
    first, *rest = text.split("/")
    return [first, *(part for each in rest for part in ("/", tags.wbr(), each))]


def tabs(name: str, legend: str, panels: Iterable[tuple[str, Sequence[Tag | str]]]) -> Tag:
    """Several views of one thing, of which one is shown: choices, so that no script is needed.

    :param name: differs from those of other tabs of the page.
    :param legend: for screen readers.
    :param panels: the title and the contents of each; the first is shown.
    """
    parts = []
    for number, (title, contents) in enumerate(panels):
        id = f"{name}-{number}"
        choice = tags.input(type="radio", name=name, id=id, value=title)
        parts += [choice(checked="") if number == 0 else choice, tags.label(title, for_=id)]
        parts.append(tags.div(*contents, class_="panel"))
    return tags.fieldset(tags.legend(legend, class_="unseen"), *parts, class_="tabs")


def badge(state: str) -> Tag:
    """The state of a build: one of ``running``, ``queued``, ``failed`` and ``done``."""
    return tags.span(state, class_=f"badge {state}")


def facts(rows: Iterable[tuple[str, Tag | str]]) -> Tag:
    """A list of facts, each with its name; those with nothing to say are left out."""
    shown = [(tags.dt(name), tags.dd(fact)) for name, fact in rows if fact]
    return tags.dl(*[part for row in shown for part in row], class_="facts")


def table(caption: str, columns: Sequence[str], rows: Iterable[Sequence[Tag | str]]) -> Tag:
    """A table; its first column names the row."""
    header = tags.tr(*[tags.th(name, scope="col") for name in columns])
    body = [tags.tr(tags.th(first, scope="row"), *map(_cell, rest)) for first, *rest in rows]
    content = tags.table(tags.caption(caption), tags.thead(header), tags.tbody(*body))
    return tags.div(content, class_="wide", tabindex="0", role="region", **{"aria-label": caption})


def _cell(content: Tag | str) -> Tag:
    """A cell of a table; a short text stays in a line."""
    is_short = isinstance(content, str) and len(content) < _SHORT
    return tags.td(content, class_="short") if is_short else tags.td(content)


def size(count: int) -> str:
    """Bytes, in three digits."""
    value = float(count)
    for unit in _UNITS:
        if value < 999.5 or unit == _UNITS[-1]:
            return f"{value:.3g} {unit}" if unit != "B" else f"{count} B"
        value /= 1000
    raise AssertionError("the last unit takes all")


def measure(count: int) -> Tag:
    """Bytes in a table, on one line."""
    return tags.span(size(count), class_="measure")


def age(then: float) -> str:
    """The time since a moment, in words."""
    seconds = max(0.0, time.time() - then)
    for word, step in _STEPS:
        if seconds >= step:
            count = int(seconds // step)
            return f"{count} {word}{'s' if count > 1 else ''} ago"
    return "just now"


def duration(seconds: float) -> str:
    """A span of time."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes} min {rest} s"


def made_ago(image: ImageSummary) -> str:
    """When an image was made, in words."""
    return age(image.made) if image.made else "some time ago"


def query_of(**fields: str) -> str:
    """The query of a link within a page, without the fields that are empty."""
    return f"?{urlencode({name: text for name, text in fields.items() if text})}"


def image_link(image: BuildHead | ImageSummary) -> Tag:
    """A link to the page of an image, or of that which a build was for."""
    name = f"{image.name}:{image.tag}"
    return tags.a(*breakable(readable(name)), href=f"/images/{name}")


def build_link(head: BuildHead, text: str = "") -> Tag:
    """A link to a build's page.

    :param text: of the link; empty for the name of the build's image.
    """
    name = breakable(readable(f"{head.name}:{head.tag}"))
    return tags.a(*([text] if text else name), href=f"/builds/{head.id}")


def platform_links(platforms: Sequence[str], shown: str, **fields: str) -> Tag | str:
    """The platforms of what a page shows, with links to itself where there are several.

    :param shown: which one the page is about.
    :param fields: of the query, to keep.
    """
    if len(platforms) < 2:
        return readable(", ".join(platforms))
    links: list[Tag | str] = []
    for platform in platforms:
        link = tags.a(readable(platform), href=query_of(**fields, platform=platform))
        links += [", ", link(**{"aria-current": "true"}) if platform == shown else link]
    return tags.span(*links[1:])
