"""``GET /packages``: search for packages that an image's name can have."""

import hashlib
import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

from klein import Klein
from twisted.internet.interfaces import IReactorTime

from nixery.http.answers import ErrorKind, RefusedRequest
from nixery.http.fair import FairTurns
from nixery.http.gate import send_body
from nixery.http.operation import Answers, Operation
from nixery.http.request import RegistryRequest
from nixery.http.routes import Route
from nixery.interfaces import ICatalogue, SearchResult
from nixery.model.json_schema import array_of, schema_of
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
_SHOWN = schema_of(
    Package,
    leave_out=["path", "image", "name", "pname"],
    name=schema_of(str | None),
    attribute=schema_of(str),
)
_FOUND = schema_of(SearchResult, leave_out=["fault"], packages=array_of(_SHOWN))
_INVALID = ErrorKind(400, "QUERY_INVALID")


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

    @app.route(
        "/packages",
        endpoint=Route(
            operations={
                b"GET": Operation(
                    {
                        200: Answers("The packages.", _FOUND),
                        202: Answers("There is no index yet: ask again.", _FOUND),
                    },
                    query={
                        "q": "words",
                        "n": f"how many ({_USUAL_RESULTS}), {MOST_RESULTS} at most",
                    },
                )
            }
        ),
    )
    async def packages(self, request: RegistryRequest) -> None:
        """The packages that all words of ``q`` fit, best first; at most ``n`` of them."""
        query, limit = parse_query(request.uri)
        async with self._turns.turn(request.network):
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

    def _seen(self, request: RegistryRequest, found: SearchResult) -> list[Package]:
        return [each for each in found.packages if self._auth.may_see(request, each.image)]


def parse_query(uri: bytes) -> tuple[str, int]:
    """The words that are searched for, and how many results are wanted.

    :raises RefusedRequest: if either is beyond what is taken.
    """
    fields = parse_qs(urlsplit(uri.decode("latin-1")).query, keep_blank_values=True)
    query = fields.get("q", [""])[0]
    if len(query) > LONGEST_QUERY or len(query.split()) > MAX_WORDS:
        message = f"q must have at most {LONGEST_QUERY} characters and {MAX_WORDS} words"
        raise RefusedRequest(_INVALID, message)
    number = fields.get("n", [str(_USUAL_RESULTS)])[0]
    if not (number.isascii() and number.isdigit() and len(number) < 10):
        raise RefusedRequest(
            _INVALID, f"n must be a number of results; at most {MOST_RESULTS} are given"
        )
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


def _is_cached(request: RegistryRequest, body: bytes) -> bool:
    """Whether a client has an answer already; says how long it may keep it."""
    tag = hashlib.sha256(body).hexdigest()[:32]
    request.setHeader(b"Cache-Control", b"max-age=%d" % _FRESH)
    request.setHeader(b"Vary", b"Authorization")
    request.setHeader(b"ETag", b'"%s"' % tag.encode("ascii"))
    return request.has_current(tag)
