"""The page that lists builds, by state."""

from collections.abc import Sequence
from urllib.parse import quote

import attrs
from twisted.web.template import Tag, tags

from nixery.history.summary import BuildHead
from nixery.model.advice import Advice, advice
from nixery.model.text import cut, readable
from nixery.model.typed_name import TypedName
from nixery.web.pages.fragments import age, badge, build_link, duration
from nixery.web.pages.page import Content, Page

STATES = ("running", "queued", "failed", "done")
_LONGEST = 240  # characters of a cause


@attrs.frozen
class BuildsView:
    """The contents of the page.

    :param builds: the latest first, each with its state and the clients that wait for it.
    :param state: of all of them; empty if they are in any.
    :param there: the states in which there are builds.
    :param older: the address of the next page; empty if there is none.
    :param is_first: whether this is the first page.
    """

    builds: Sequence[tuple[BuildHead, str, int]]
    state: str
    there: Sequence[str]
    older: str
    is_first: bool


def builds_page(view: BuildsView) -> Page:
    """The page for browsers."""
    body: list[Content] = [tags.h1("Builds"), _filters(view)]
    if view.builds:
        rows = [_row(head, state, waiting) for head, state, waiting in view.builds]
        body.append(tags.ul(*rows, class_="list"))
    else:
        told = "No builds are in this state." if view.state else "No builds yet."
        hint = "" if view.state else " The first pull of an image starts one."
        body.append(tags.p(told, hint, class_="empty"))
    newest = tags.a("Newest", href=_address(view.state), class_="button")
    older = tags.a("Older", href=view.older, class_="button", rel="next")
    pager = [tags.span("") if view.is_first else newest, older if view.older else ""]
    body.append(tags.nav(*pager, class_="pager", **{"aria-label": "Pages"}) if any(pager) else None)
    return Page(f"{view.state} builds".strip().capitalize(), body)


def _address(state: str) -> str:
    return f"/builds?state={state}" if state else "/builds"


def _filters(view: BuildsView) -> Tag | None:
    """Links to the builds of each state that there is."""
    if not view.there and not view.state:
        return None
    items = []
    for state in ("", *(each for each in STATES if each in view.there or each == view.state)):
        link = tags.a(state.capitalize() or "All", href=_address(state))
        here = {"aria-current": "page"} if state == view.state else {}
        items.append(tags.li(link(**here)))
    return tags.nav(tags.ul(*items, class_="filters"), **{"aria-label": "States"})


def _row(head: BuildHead, state: str, waiting: int) -> Tag:
    """A build in a line, and why it failed in others."""
    times = [f"started {age(head.started)}"]
    if head.ended is not None:
        times.append(f"took {duration(head.ended - head.started)}")
    if waiting:
        times.append(f"{waiting} client{'s' if waiting > 1 else ''} waiting")
    row = tags.li(
        tags.div(build_link(head), badge(state), class_="row"),
        tags.p(", ".join(times).capitalize(), class_="soft small"),
    )
    if head.error is None:
        return row
    cause = head.error.partition("\n")[0].removesuffix("; the end of its log:")
    told = advice(head.kind, head.error)
    row(tags.p(readable(cut(cause, _LONGEST))))
    return row(advised(head, told)(class_="soft")) if told else row


def advised(head: BuildHead, told: Advice) -> Tag:
    """Advice, with links to the names that may be meant, or to a search."""
    text = tags.p(told.text)
    for number, (name, meant) in enumerate(meant_instead(head, told).items()):
        text(", " if number else " ", tags.a(readable(name), href=f"/?q={quote(meant)}"))
    if told.package and not told.instead:
        search = f"/packages?q={quote(told.package)}"
        text(" ", tags.a(f"Search for {readable(told.package)}", href=search))
    return text


def meant_instead(head: BuildHead, told: Advice) -> dict[str, str]:
    """The packages that may be meant instead → the images with them, and their tags.

    What no image can be called is left out: it would be in a command that people copy.
    """
    named = TypedName.parse(f"{head.name}:{head.tag}")
    found = {name: TypedName.parse(named.replaced(told.package, name)) for name in told.instead}
    return {name: meant.name for name, meant in found.items() if not meant.fault}
