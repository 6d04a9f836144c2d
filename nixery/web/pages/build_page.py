"""The page of a build: how far it has come, what it says, and why it failed."""

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
from twisted.web.template import Tag, tags

from nixery.history.summary import BuildHead
from nixery.model.text import readable
from nixery.web.pages.fragments import age, command, duration, image_link, size, table
from nixery.web.pages.page import Content, Page

_STATES = {"running": "It is running", "done": "It is done", "failed": "It failed"}


@attrs.frozen
class BuildView:
    """The contents of a build's page.

    :param details: of the build: see :class:`nixery.history.summary.Summary`.
    :param logs: whether the output of packages is shown.
    """

    host: str
    head: BuildHead
    details: Mapping[str, Any]
    logs: bool


def build_page(view: BuildView) -> Page:
    """The page for browsers; its script follows the events where there is one."""
    head = view.head
    name = f"{head.name}:{head.tag}"
    body: list[Content] = [
        tags.h1("Build of ", tags.code(readable(name))),
        _state(head, bool(view.details.get("queued"))),
        _failure(view),
        tags.h2("Progress"),
        *_progress(view.details),
        tags.h2("Derivations"),
        _derivations(view.details.get("derivations", [])),
        *_collisions(view.details.get("collided") or {}),
        tags.h2("Log"),
        *_log(view),
    ]
    live = head.state == "running"
    return Page(f"Build of {name}", body, script="build.js", refresh=5 if live else 0)


def _state(head: BuildHead, queued: bool) -> Tag:
    words = (
        "It is waiting for its turn" if queued and head.state == "running" else _STATES[head.state]
    )
    spent = "" if head.ended is None else f", after {duration(head.ended - head.started)}"
    text = f"{words}; begun {age(head.started)}{spent}. "
    state = tags.p(
        tags.span(text, id="state"),
        id="build",
        role="status",
        **{"data-id": head.id, "data-state": head.state},
    )
    return state(image_link(head)) if head.state == "done" else state


def _failure(view: BuildView) -> Tag | None:
    head = view.head
    if head.error is None:
        return None
    return tags.section(
        tags.h2("Why it failed"),
        tags.pre("\n".join(readable(line) for line in head.error.split("\n"))),
        tags.p("To try again:"),
        command(f"docker pull {view.host}/{head.name}:{head.tag}", "The command that tries again"),
        class_="failure",
    )


def _progress(details: Mapping[str, Any]) -> list[Tag]:
    derivations = details.get("derivations", [])
    ended = sum(each["state"] != "building" for each in derivations)
    planned = max(len(derivations), details.get("planned", {}).get("derivations") or 0)
    fetched = details.get("fetched", {})
    layers = details.get("layers", {})
    made = sum(bool(each.get("stored")) for each in layers.get("made", []))
    known = (layers.get("known") or 0) + made
    return [
        _bar("built", "Derivations built", ended, planned, f"{ended} of {planned}"),
        _bar(
            "fetched",
            "Bytes fetched",
            fetched.get("done", 0),
            fetched.get("expected", 0),
            f"{size(fetched.get('done', 0))} of {size(fetched.get('expected', 0))}",
        ),
        _bar(
            "layers",
            "Layers stored",
            known,
            layers.get("layers") or 0,
            f"{known} of {layers.get('layers') or 0}",
        ),
    ]


def _bar(name: str, label: str, done: int, of: int, text: str) -> Tag:
    bar = tags.progress(text, id=name, max=str(max(of, 1)), value=str(min(done, max(of, 1))))
    words = tags.span(text, id=f"{name}-text")
    return tags.p(tags.label(label, for_=name), bar, " ", words, class_="bar")


def _derivations(derivations: Sequence[Mapping[str, Any]]) -> Tag:
    rows = []
    for each in derivations:
        spent = duration(each["ended"] - each["started"]) if each["ended"] is not None else ""
        phase = each["phases"][-1][0] if each["phases"] else ""
        name = tags.code(readable(each["name"]))
        rows.append((name, each["state"], readable(phase), spent))
    content = table("Derivations that are built", ("Name", "State", "Phase", "Time"), rows)
    content(id="derivations")
    return content


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
    return [*content, tags.p(f"There are {more} more; the log has all.")] if more else content


def _log(view: BuildView) -> list[Tag]:
    address = f"/builds/{view.head.id}/log"
    whole = tags.p(
        tags.a("The whole log as text", href=address),
        ", in a terminal: ",
        tags.code(f"curl -N {view.host}{address}"),
    )
    if not view.logs:
        return [tags.p("The output of builds is not shown here."), whole]
    tools = tags.div(
        tags.label("Find ", tags.input(type="search", id="find")),
        tags.label(tags.input(type="checkbox", id="wrap"), " wrap lines"),
        tags.label(tags.input(type="checkbox", id="pause"), " pause"),
        id="tools",
        hidden="",
    )
    lines = tags.pre(
        id="log", tabindex="0", role="log", **{"aria-label": "Log", "aria-live": "off"}
    )
    return [whole, tools, lines]
