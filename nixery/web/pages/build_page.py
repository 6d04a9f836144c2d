"""The page of a build: how far it has come, what it says, and why it failed."""

from collections.abc import Mapping
from typing import Any

import attrs
from twisted.web.template import Tag, tags

from nixery.history.summary import BuildHead
from nixery.model.advice import advice
from nixery.model.text import readable
from nixery.web.pages.builds_page import advised, meant_instead
from nixery.web.pages.fragments import (
    age,
    badge,
    breakable,
    command,
    duration,
    image_link,
    size,
    table,
)
from nixery.web.pages.page import Content, Page

_STATES = {
    "running": "Running",
    "queued": "Waiting for its turn",
    "done": "Done",
    "failed": "Failed",
}


@attrs.frozen
class BuildView:
    """The contents of a build's page.

    :param state: of the build: see :meth:`nixery.history.history.History.state`.
    :param details: of the build: see :class:`nixery.history.summary.Summary`.
    :param logs: whether the output of packages is shown.
    """

    host: str
    head: BuildHead
    state: str
    details: Mapping[str, Any]
    logs: bool


def build_page(view: BuildView) -> Page:
    """The page for browsers; its script follows the events where there is one."""
    head = view.head
    name = readable(f"{head.name}:{head.tag}")
    title = tags.h1("Build of ", tags.code(*breakable(name)))
    live = head.state == "running"
    parts = [_progress(view.details, live), _derivations(view.details, live)]
    # A failure leads with its cause, and the log has its reason.
    parts.insert(0 if head.state == "failed" else 2, _log(view))
    body: list[Content] = [
        tags.div(title, badge(view.state), class_="row"),
        _state(head, view.state),
        _failure(view),
        *parts,
        *_collisions(view.details.get("collided") or {}),
    ]
    return Page(f"Build of {name}", body, script="build.js", refresh=5 if live else 0)


def _state(head: BuildHead, state: str) -> Tag:
    spent = "" if head.ended is None else f" after {duration(head.ended - head.started)}"
    text = f"{_STATES[state]}{spent}; started {age(head.started)}. "
    shown = tags.p(
        tags.span(text, id="state"),
        id="build",
        role="status",
        class_="soft",
        **{"data-id": head.id, "data-state": head.state},
    )
    return shown(image_link(head)) if head.state == "done" else shown


def _failure(view: BuildView) -> Tag | None:
    """Why the build failed, and what to do."""
    head = view.head
    if head.error is None:
        return None
    cause, *rest = (readable(line) for line in head.error.split("\n"))
    parts: list[Tag | str] = [tags.h2("Why it failed"), tags.p(cause)]
    if rest:
        parts.append(tags.pre("\n".join(rest)))
    told = advice(head.kind, head.error)
    if told is not None:
        parts += [tags.h3("What to do"), advised(head, told)]
    names = [] if told is None else list(meant_instead(head, told).values())
    if not names:
        names = [f"{head.name}:{head.tag}"]
        parts.append(tags.p("To try again:"))
    for name in names:
        pull = f"docker pull {view.host}/{readable(name)}"
        parts.append(command(pull, f"The command that pulls {readable(name)}"))
    return tags.section(*parts, class_="failure")


def _progress(details: Mapping[str, Any], live: bool) -> Tag:
    derivations = details.get("derivations", [])
    ended = sum(each["state"] != "building" for each in derivations)
    planned = max(len(derivations), details.get("planned", {}).get("derivations") or 0)
    fetched = details.get("fetched", {})
    done, expected = fetched.get("done", 0), fetched.get("expected", 0)
    layers = details.get("layers", {})
    made = sum(bool(each.get("stored")) for each in layers.get("made", []))
    known, of = (layers.get("known") or 0) + made, layers.get("layers") or 0
    bars = [
        _bar("built", "Derivations built", ended, planned, f"{ended} of {planned}"),
        _bar("fetched", "Bytes fetched", done, expected, f"{size(done)} of {size(expected)}"),
        _bar("layers", "Layers stored", known, of, f"{known} of {of}"),
    ]
    section = tags.section(tags.h2("Progress"), *bars)
    return section if live or planned or expected or of else section(hidden="")


def _bar(name: str, label: str, done: int, of: int, text: str) -> Tag:
    """A bar; it is hidden while there is nothing to do."""
    bar = tags.progress(text, id=name, max=str(max(of, 1)), value=str(min(done, max(of, 1))))
    words = tags.span(text, id=f"{name}-text")
    row = tags.p(tags.label(label, for_=name), bar, words, class_="bar")
    return row if of else row(hidden="")


def _derivations(details: Mapping[str, Any], live: bool) -> Tag | None:
    derivations = details.get("derivations", [])
    if not derivations and not live:
        return None
    rows = []
    for each in derivations:
        spent = duration(each["ended"] - each["started"]) if each["ended"] is not None else ""
        phase = each["phases"][-1][0] if each["phases"] else ""
        name = tags.code(readable(each["name"]))
        rows.append((name, each["state"], readable(phase), spent))
    content = table("Derivations", ("Name", "State", "Phase", "Time"), rows)
    section = tags.section(tags.h2("Derivations"), content, id="derivations")
    return section if rows else section(hidden="")


def _collisions(collided: Mapping[str, Any]) -> list[Tag]:
    """The files that packages could not have in the image, if there are any."""
    first = collided.get("first", [])
    if not first:
        return []
    rows = [
        (tags.code(readable(f"/{each['name']}")), readable(each["kept"]), readable(each["lost"]))
        for each in first
    ]
    more = collided["count"] - len(first)
    content = [
        tags.h2("Collisions"),
        tags.p("Several packages have a file of the same name; the image has one of them."),
        table("Collisions", ("File", "Kept from", "Left out from"), rows),
    ]
    return [*content, tags.p(f"There are {more} more; the log lists all.")] if more else content


def _log(view: BuildView) -> Tag:
    address = f"/builds/{view.head.id}/log"
    title = tags.div(tags.h2("Log"), tags.a("As text", href=address), class_="row")
    whole = command(f"curl -N {view.host}{address}", "The command that shows the log in a terminal")
    if not view.logs:
        return tags.section(title, tags.p("Build output is not shown here."), whole)
    tools = tags.div(
        tags.label("Find ", tags.input(type="search", id="find")),
        tags.label(tags.input(type="checkbox", id="wrap"), " wrap lines"),
        tags.label(tags.input(type="checkbox", id="pause"), " pause"),
        id="tools",
        hidden="",
    )
    lines = tags.pre(
        id="log", tabindex="0", role="log", hidden="", **{"aria-label": "Log", "aria-live": "off"}
    )
    return tags.section(title, tools, lines, whole)
