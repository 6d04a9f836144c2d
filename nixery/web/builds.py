"""Builds for programs: a list, the state of each, and their events.

``GET /builds`` lists them, the latest first; ``/builds/ID`` is one of them in short,
``/builds/ID/events`` its events as they come, ``/builds/ID/log`` the same for people.
"""

import json
import re
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any
from urllib.parse import urlencode

import attrs
from klein import Klein
from twisted.internet.interfaces import IReactorTime

from nixery.history.history import History
from nixery.history.summary import BuildHead, brief
from nixery.http.answers import NOT_FOUND, QUERY_INVALID, RefusedRequest
from nixery.http.bounded_site import never_ends
from nixery.http.fair import FairTurns
from nixery.http.gate import send_body, send_pieces
from nixery.http.operation import HTML, Answers, Operation
from nixery.http.paging import json_array, length_of, page_of, tell_next
from nixery.http.request import RegistryRequest
from nixery.http.routes import Errors, Route
from nixery.model.json_schema import array_of, schema_of
from nixery.web.auth import OPEN, Auth
from nixery.web.forms import NDJSON, RAW_TEXT, SERVER_SENT, TEXT, Form, send_events, shorten
from nixery.web.pages.build_page import BuildView, build_page
from nixery.web.pages.builds_page import STATES, BuildsView, builds_page
from nixery.web.pages.page import prefers_html, send_page

_PAGE, _SHOWN, _MOST = 100, 30, 1000
_AT_ONCE = _PAGE + 1
"""Builds that are looked at in one turn: enough for a usual page, and some milliseconds."""
_LOOKED_THROUGH = 1000
"""Builds that are looked at for one page in a browser: a client may see few of them."""
_LINE = schema_of(BuildHead, waiting={"type": "integer"})
_NUMBER = re.compile("[0-9]{1,15}")


_LOST = (
    "This build is not known here",
    "It never existed, or is no longer remembered. The start page lists recent builds.",
)


class BuildsApi:
    """Answers everything below ``/builds``, for GET and HEAD."""

    app = Klein()
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False

    def __init__(
        self, clock: IReactorTime, history: History, logs: bool = True, auth: Auth = OPEN
    ) -> None:
        """
        :param auth: says which images' builds a client may see.
        :param logs: whether the output of packages is shown.
        """
        self._clock = clock
        self._history = history
        self._logs = logs
        self._auth = auth
        self._turns = FairTurns(clock)
        self._beginning = FairTurns(clock, share=0.5)  # to listen: it may read a file, in a thread

    @app.route(
        "/builds",
        endpoint=Route(
            errors=Errors.PAGE_IN_BROWSER,
            operations={
                b"GET": Operation(
                    {200: Answers("The builds.", array_of(_LINE), others=(HTML,))},
                    "Builds, the latest first",
                    {
                        "n": f"how many; {_PAGE} by default, {_MOST} at most",
                        "before": "an ID: only older builds; the Link header has the next page",
                        "state": f"one of {', '.join(STATES)}: only builds in this state",
                    },
                )
            },
        ),
    )
    async def builds(self, request: RegistryRequest) -> None:
        """The builds, the latest first, in pages: ``n`` of them, ``before`` an ID, in one
        ``state``; in a browser as a page.

        Long errors are cut: they are whole in the answer about one build.
        """
        state = request.parameter("state")
        if state not in ("", *STATES):
            message = f"state must be one of {', '.join(STATES)}"
            told = ("There is no such state", f"The {message}.")
            raise RefusedRequest(QUERY_INVALID, message, page=told)
        is_page = prefers_html(request)
        count = length_of(request, _SHOWN if is_page else _PAGE, _MOST)
        before = request.parameter("before")
        every = self._history.heads(before or None, state or None)
        fields = {"n": request.parameter("n") and str(count), "state": state}
        if is_page:
            async with self._turns.turn(request.network):
                heads, older = self._some(request, every, count)
                view = BuildsView(
                    [(h, self._history.state(h), self._history.waiting(h.id)) for h in heads],
                    state,
                    self._states(request),
                    _more(fields, older),
                    not before,
                )
                body = send_page(request, builds_page(view))
            await send_body(request, body)
            return
        page, following = await page_of(
            request,
            self._turns,
            every,
            lambda head: self._auth.may_see(request, head.name, head.tag),
            count,
            _AT_ONCE,
        )
        if page and following:
            tell_next(request, _more(fields, page[-1].id))
        _describe_json(request)
        lines = json_array(self._line(brief(head)) for head in page)
        await send_pieces(request, lines, self._turns)

    @app.route(
        "/builds/<string:id>",
        endpoint=Route(
            errors=Errors.PAGE_IN_BROWSER,
            operations={
                b"GET": Operation(
                    {200: Answers("The build, with its summary.", _LINE, others=(HTML,))}
                )
            },
        ),
    )
    async def build(self, request: RegistryRequest, id: str) -> None:
        """The state of a build, in a browser as a page."""
        self._head(request, id)
        async with self._turns.turn(request.network):
            head, details = await self._history.in_full(self._head(request, id))
            if prefers_html(request):
                error = head.error if self._logs else shorten(head.error)
                view = BuildView(
                    request.asked_host,
                    attrs.evolve(head, error=error),
                    self._history.state(head),
                    details,
                    self._logs,
                )
                body = send_page(request, build_page(view))
            else:
                body = json.dumps({**self._line(head), **details}).encode("ascii")
                _describe_json(request)
        await send_body(request, body)

    @app.route(
        "/builds/<string:id>/events",
        endpoint=Route(
            operations={
                b"GET": Operation(
                    {
                        200: Answers(
                            "Server-sent events; a line of JSON for each if "
                            f"{NDJSON.media_type} is accepted.",
                            media_type="text/event-stream",
                        )
                    },
                    query={"after": "the number of the last event that is known"},
                )
            }
        ),
    )
    async def events(self, request: RegistryRequest, id: str) -> bytes:
        """A build's events, from the first or behind the last that the client knows."""
        accept = request.getHeader(b"accept") or b""
        request.setHeader(b"Vary", b"Accept")
        form = NDJSON if NDJSON.media_type.encode("ascii") in accept else SERVER_SENT
        return await self._stream(request, id, form)

    @app.route(
        "/builds/<string:id>/log",
        endpoint=Route(
            operations={
                b"GET": Operation(
                    {200: Answers("The events, as text.", media_type="text/plain")},
                    query={"raw": "if it is there, packages' lines are as they printed them"},
                )
            }
        ),
    )
    async def log(self, request: RegistryRequest, id: str) -> bytes:
        """A build's events as text; with ``raw``, packages' lines are as they printed them."""
        return await self._stream(request, id, RAW_TEXT if "raw" in request.query else TEXT)

    def _some(
        self, request: RegistryRequest, every: Iterator[BuildHead], count: int
    ) -> tuple[list[BuildHead], str]:
        """The first builds that the client may see, of not too many that are looked at.

        :return: them, and the ID before which others are; empty if there are none.
        """
        seen: list[BuildHead] = []
        for number, head in enumerate(every, 1):
            if self._auth.may_see(request, head.name, head.tag):
                if len(seen) == count:
                    return seen, seen[-1].id
                seen.append(head)
            if number == _LOOKED_THROUGH:
                return seen, head.id
        return seen, ""

    def _states(self, request: RegistryRequest) -> list[str]:
        """The states in which there are builds that the client may see among the latest."""
        return [
            state
            for state in STATES
            if any(
                self._auth.may_see(request, head.name, head.tag)
                for head in islice(self._history.heads(state=state), _AT_ONCE)
            )
        ]

    def _head(self, request: RegistryRequest, id: str) -> BuildHead:
        """A build that the client may see."""
        head = self._history.head(id)
        if head is None or not self._auth.may_see(request, head.name, head.tag):
            raise _unknown()
        return head

    async def _stream(self, request: RegistryRequest, id: str, form: Form) -> bytes:
        self._head(request, id)
        known = request.getHeader(b"last-event-id")
        after = known.decode("latin-1") if known is not None else request.parameter("after")
        number = int(after) if _NUMBER.fullmatch(after) else 0
        async with self._beginning.turn(request.network):
            subscription = await self._history.follow(id, number)
        if subscription is None:
            raise _unknown()
        if number and subscription.at_end:  # a browser would ask again and again
            request.setResponseCode(204)
            return b""
        if request.method != b"HEAD" and subscription.goes_on:
            never_ends(request)
        for name, value in (
            (b"Content-Type", form.media_type.encode("ascii")),
            (b"Cache-Control", b"no-cache"),
            (b"X-Content-Type-Options", b"nosniff"),
            (b"X-Accel-Buffering", b"no"),  # asks nginx to pass on what comes at once
        ):
            request.setHeader(name, value)
        if request.method != b"HEAD":
            shown = form if self._logs else form.without_logs()
            await send_events(self._clock, request, subscription, shown)
        return b""

    def _line(self, head: BuildHead) -> dict[str, Any]:
        """A build as an object of the list, fit for anybody to see."""
        line = {**attrs.asdict(head), "waiting": self._history.waiting(head.id)}
        return line if self._logs else {name: shorten(value) for name, value in line.items()}


def _more(fields: Mapping[str, str], before: str) -> str:
    """The address of the list's next part; empty if there is none.

    :param fields: of the query for this part.
    """
    named = {name: text for name, text in fields.items() if text}
    return f"/builds?{urlencode({**named, 'before': before})}" if before else ""


def _unknown() -> RefusedRequest:
    return RefusedRequest(NOT_FOUND, "this build is not known here", page=_LOST)


def _describe_json(request: RegistryRequest) -> None:
    request.setHeader(b"Content-Type", b"application/json")
    request.setHeader(b"Cache-Control", b"no-cache")
    request.setHeader(b"Vary", b"Accept")
