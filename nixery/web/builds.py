"""Builds for programs: which there are, what becomes of them, and what they say.

``GET /builds`` lists them, the latest first; ``/builds/ID`` is one of them in short,
``/builds/ID/events`` its events as they come, ``/builds/ID/log`` the same for people.
"""

import json
import re
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any
from urllib.parse import parse_qs, urlsplit

import attrs
from klein import Klein
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from twisted.web.server import Request
from werkzeug.exceptions import HTTPException

from nixery.history.history import History
from nixery.history.summary import BuildHead, brief
from nixery.http.answers import Kind, answer, answer_error, log_fault
from nixery.http.channel import never_ends
from nixery.http.fair import FairTurns
from nixery.http.gate import send_body, send_pieces
from nixery.http.leaving import until_left
from nixery.http.request import client_of
from nixery.model.errors import NixeryError
from nixery.model.networks import network_of
from nixery.web.auth import OPEN, Auth
from nixery.web.forms import NDJSON, RAW_TEXT, SERVER_SENT, TEXT, Form, shorten
from nixery.web.streaming import send_events

_NOT_FOUND = Kind(404, "NOT_FOUND")
_UNKNOWN = Kind(500, "UNKNOWN")
_PAGE, _MOST = 100, 1000
_NUMBER = re.compile("[0-9]{1,15}")


class _BuildUnknown(Exception):
    """There is no such build here, or none any more."""


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
        :param logs: whether what packages print is shown.
        """
        self._clock = clock
        self._history = history
        self._logs = logs
        self._auth = auth
        self._turns = FairTurns(clock)
        self._beginning = FairTurns(clock, share=0.5)  # to listen: it may read a file, in a thread

    @app.route("/builds")
    @until_left
    async def builds(self, request: Request) -> None:
        """The builds, the latest first, in pages: ``n`` of them, ``before`` an ID.

        Long errors are cut: they are whole in the answer about one build.
        """
        number = _parameter(request, "n")
        count = min(int(number), _MOST) if _NUMBER.fullmatch(number) else _PAGE
        async with self._turns.turn(network_of(client_of(request))):
            all_heads = self._history.heads(_parameter(request, "before") or None)
            seen = (h for h in all_heads if self._auth.may_see(request, h.name, h.tag))
            heads = list(islice(seen, count + 1))
        page = heads[:count]
        if page and len(page) < len(heads):
            link = f'</builds?n={count}&before={page[-1].id}>; rel="next"'
            request.setHeader(b"Link", link.encode("ascii"))
        _describe_json(request)
        await send_pieces(request, self._list(page), self._turns)

    @app.route("/builds/<string:id>")
    @until_left
    async def build(self, request: Request, id: str) -> None:
        """What a build was for, and what came of it so far."""
        self._head(request, id)
        async with self._turns.turn(network_of(client_of(request))):
            head, details = await self._history.in_full(self._head(request, id))
            body = json.dumps({**self._line(head), **details}).encode("ascii")
        _describe_json(request)
        await send_body(request, body)

    @app.route("/builds/<string:id>/events")
    @until_left
    async def events(self, request: Request, id: str) -> bytes:
        """A build's events, from the first or behind the last that the client knows."""
        accept = request.getHeader(b"accept") or b""
        request.setHeader(b"Vary", b"Accept")
        form = NDJSON if NDJSON.media_type.encode("ascii") in accept else SERVER_SENT
        return await self._stream(request, id, form)

    @app.route("/builds/<string:id>/log")
    @until_left
    async def log(self, request: Request, id: str) -> bytes:
        """A build's events as text; with ``raw``, packages' lines are as they printed them."""
        raw = "raw" in parse_qs(_query(request), keep_blank_values=True)
        return await self._stream(request, id, RAW_TEXT if raw else TEXT)

    # Klein's annotation wants a handler for any IRequest; it is handed what twisted.web made.
    @app.handle_errors(Exception)  # type: ignore[arg-type]
    def failed(self, request: Request, failure: Failure) -> bytes | None:
        """Answer a request that something was wrong with."""
        match failure.value:
            case _BuildUnknown():
                return answer(request, _NOT_FOUND, "no such build is known here, or none any more")
            case HTTPException():
                return answer(request, _NOT_FOUND, "there is nothing at this path")
            case NixeryError() as error:
                return answer_error(request, error)
            case _:
                log_fault(request, failure)
                if request.startedWriting:
                    request.channel.persistent = False
                    return None
                return answer(request, _UNKNOWN, "something went wrong here; it was logged")

    def _head(self, request: Request, id: str) -> BuildHead:
        """A build that may be seen by whoever asks."""
        head = self._history.head(id)
        if head is None or not self._auth.may_see(request, head.name, head.tag):
            raise _BuildUnknown()
        return head

    async def _stream(self, request: Request, id: str, form: Form) -> bytes:
        self._head(request, id)
        known = request.getHeader(b"last-event-id")
        after = known.decode("latin-1") if known is not None else _parameter(request, "after")
        number = int(after) if _NUMBER.fullmatch(after) else 0
        async with self._beginning.turn(network_of(client_of(request))):
            subscription = await self._history.follow(id, number)
        if subscription is None:
            raise _BuildUnknown()
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

    def _list(self, page: Sequence[BuildHead]) -> Iterator[bytes]:
        """The list's document; its lines are made when they are sent."""
        yield b"["
        for number, head in enumerate(page):
            line = json.dumps(self._line(brief(head))).encode("ascii")
            yield b", " + line if number else line
        yield b"]"

    def _line(self, head: BuildHead) -> dict[str, Any]:
        """A build in a line, for the eyes of anybody."""
        line = {**attrs.asdict(head), "waiting": self._history.waiting(head.id)}
        return line if self._logs else {name: shorten(value) for name, value in line.items()}


def _describe_json(request: Request) -> None:
    request.setHeader(b"Content-Type", b"application/json")
    request.setHeader(b"Cache-Control", b"no-cache")


def _query(request: Request) -> str:
    return urlsplit(request.uri.decode("latin-1")).query


def _parameter(request: Request, name: str) -> str:
    return parse_qs(_query(request)).get(name, [""])[0]
