"""``GET /packages``: which packages there are to name in an image's name."""

import hashlib
import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

from klein import Klein
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from twisted.web.server import Request
from werkzeug.exceptions import HTTPException

from nixery.http.answers import Kind, answer, answer_error, log_fault
from nixery.http.conditions import matches
from nixery.http.fair import FairTurns
from nixery.http.gate import send_body
from nixery.http.leaving import until_left
from nixery.http.request import client_of
from nixery.interfaces import ICatalogue, SearchResult
from nixery.model.errors import NixeryError
from nixery.model.networks import network_of
from nixery.model.package_set import Package
from nixery.search.ranking import MAX_WORDS
from nixery.web.auth import OPEN, Auth

LONGEST_QUERY = 200
"""Characters."""
MOST_RESULTS = 100
_USUAL_RESULTS = 20
_LOOKED_THROUGH = 1000  # results, where some are of packages that the client may not pull
_COME_AGAIN = 2  # seconds after which the index may be there
_FRESH = 60  # seconds that an answer may be kept
_INVALID = Kind(400, "QUERY_INVALID")
_NOT_FOUND = Kind(404, "NOT_FOUND")
_UNKNOWN = Kind(500, "UNKNOWN")


class QueryInvalid(ValueError):
    """A query that is refused; its text is for the person who asked."""


class PackagesApi:
    """Answers ``/packages``, for GET and HEAD."""

    app = Klein()

    def __init__(self, clock: IReactorTime, catalogue: ICatalogue, auth: Auth = OPEN) -> None:
        """
        :param auth: says which packages a client may see.
        """
        self._catalogue = catalogue
        self._auth = auth
        self._turns = FairTurns(clock)

    @app.route("/packages")
    @until_left
    async def packages(self, request: Request) -> None:
        """The packages that all words of ``q`` fit, best first; at most ``n`` of them."""
        query, limit = parse_query(request.uri)
        async with self._turns.turn(network_of(client_of(request))):
            found = await self._catalogue.search(query, limit)
            seen = self._seen(request, found)
            if len(seen) < len(found.packages):  # there may be others behind them
                found = await self._catalogue.search(query, _LOOKED_THROUGH)
                seen = self._seen(request, found)[:limit]
            body = _body(found, seen)
        request.setHeader(b"Content-Type", b"application/json")
        if not found.ready:
            request.setResponseCode(202)
            request.setHeader(b"Retry-After", b"%d" % _COME_AGAIN)
            request.setHeader(b"Cache-Control", b"no-store")
        elif _is_cached(request, body):
            request.setResponseCode(304)
            return
        await send_body(request, body)

    def _seen(self, request: Request, found: SearchResult) -> list[Package]:
        return [each for each in found.packages if self._auth.may_see(request, each.image)]

    # Klein's annotation wants a handler for any IRequest; it is handed what twisted.web made.
    @app.handle_errors(Exception)  # type: ignore[arg-type]
    def failed(self, request: Request, failure: Failure) -> bytes | None:
        """Answer a request that something was wrong with."""
        match failure.value:
            case QueryInvalid() as error:
                return answer(request, _INVALID, str(error))
            case HTTPException():
                return answer(request, _NOT_FOUND, "there is nothing at this path")
            case NixeryError() as error:
                return answer_error(request, error)
            case _:
                log_fault(request, failure)
                return answer(request, _UNKNOWN, "something went wrong here; it was logged")


def parse_query(uri: bytes) -> tuple[str, int]:
    """What is searched for, and how many results are wanted.

    :raises QueryInvalid: if either is beyond what is taken.
    """
    fields = parse_qs(urlsplit(uri.decode("latin-1")).query, keep_blank_values=True)
    query = fields.get("q", [""])[0]
    if len(query) > LONGEST_QUERY or len(query.split()) > MAX_WORDS:
        raise QueryInvalid(f"q has at most {LONGEST_QUERY} characters and {MAX_WORDS} words")
    number = fields.get("n", [str(_USUAL_RESULTS)])[0]
    if not (number.isascii() and number.isdigit() and len(number) < 10):
        raise QueryInvalid(f"n is a number, of results: at most {MOST_RESULTS} are given")
    return query, min(int(number), MOST_RESULTS)


def _body(found: SearchResult, seen: list[Package]) -> bytes:
    document: dict[str, Any] = {
        "ready": found.ready,
        "source": found.source,
        "revision": found.revision,
        "count": found.count,
        "whole": found.whole,
        "packages": [_shown(package) for package in seen],
    }
    if found.fault:
        document["fault"] = found.fault
    return json.dumps(document).encode("ascii")


def _shown(package: Package) -> dict[str, Any]:
    """A package as clients get it; its name is nothing if no image can ask for it."""
    return {
        "name": package.image or None,
        "attribute": package.attribute,
        "version": package.version,
        "description": package.description,
        "homepage": package.homepage,
        "program": package.program,
        "programs": package.programs,
        "available": package.available,
    }


def _is_cached(request: Request, body: bytes) -> bool:
    """Whether a client has an answer already; says how long it may keep it."""
    tag = hashlib.sha256(body).hexdigest()[:32]
    request.setHeader(b"Cache-Control", b"max-age=%d" % _FRESH)
    request.setHeader(b"Vary", b"Authorization")
    request.setHeader(b"ETag", b'"%s"' % tag.encode("ascii"))
    return matches(request.getHeader("if-none-match") or "", tag)
