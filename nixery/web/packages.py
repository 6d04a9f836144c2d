"""``/packages``: search for packages that an image's name can have; ``/packages/NAME``: one."""

import hashlib
import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

from klein import Klein

from nixery.http.answers import NOT_FOUND, QUERY_INVALID, RefusedRequest
from nixery.http.fair import FairTurns
from nixery.http.gate import send_body
from nixery.http.operation import HTML, Answers, Operation
from nixery.http.request import RegistryRequest
from nixery.http.routes import Errors, Route
from nixery.interfaces import ICatalogue, SearchResult
from nixery.model.image import name_parts
from nixery.model.json_schema import array_of, schema_of
from nixery.model.package_set import Package
from nixery.model.typed_name import TypedName
from nixery.reactor import IReactor, in_thread
from nixery.search.ranking import MAX_WORDS
from nixery.web.auth import OPEN, Auth
from nixery.web.pages.package_page import Held, PackageView, package_page, package_text
from nixery.web.pages.packages_page import SearchView, packages_page, waiting_page
from nixery.web.pages.page import prefers_html, send_large_page, send_page, send_text
from nixery.web.stored_images import StoredImages

LONGEST_QUERY = 200
"""Characters."""
MOST_RESULTS = 100
_USUAL_RESULTS = 20
_LOOKED_THROUGH = 1000  # results, where some are of packages that the client may not pull
_IMAGES = 5  # that have all words of a query in their names
_LOOKED_INTO = 16  # images that hold a package
_COME_AGAIN = 2  # seconds after which the index may be there
_FRESH = 60  # seconds that an answer may be kept
_SHOWN = schema_of(
    Package,
    leave_out=["path", "image", "name", "pname"],
    name=schema_of(str | None),
    attribute=schema_of(str),
)
_FOUND = schema_of(SearchResult, leave_out=["fault"], packages=array_of(_SHOWN))


class PackagesApi:
    """Answers ``/packages`` and what is below, for GET and HEAD."""

    app = Klein()

    def __init__(
        self, reactor: IReactor, catalogue: ICatalogue, images: StoredImages, auth: Auth = OPEN
    ) -> None:
        """
        :param images: those that hold packages.
        :param auth: says which packages a client may see.
        """
        self._reactor = reactor
        self._catalogue = catalogue
        self._images = images
        self._auth = auth
        self._turns = FairTurns(reactor)

    @app.route(
        "/packages",
        endpoint=Route(
            errors=Errors.PAGE_IN_BROWSER,
            operations={
                b"GET": Operation(
                    {
                        200: Answers("The packages.", _FOUND, others=(HTML,)),
                        202: Answers("There is no index yet: ask again.", _FOUND),
                    },
                    query={
                        "q": "words",
                        "n": f"how many ({_USUAL_RESULTS}), {MOST_RESULTS} at most",
                    },
                )
            },
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
            if prefers_html(request):
                name = TypedName.parse(query, request.asked_host)
                images = await self._images.called(request, name, _IMAGES)
                page = SearchView(query, found, seen, limit, MOST_RESULTS, name, images)
                body = await send_large_page(request, self._reactor, lambda: packages_page(page))
            else:
                body = _body(found, seen)
        if prefers_html(request):
            await send_body(request, body)
            return
        request.setHeader(b"Content-Type", b"application/json")
        if not found.ready:
            request.setResponseCode(202)
            request.setHeader(b"Retry-After", b"%d" % _COME_AGAIN)
            request.setHeader(b"Cache-Control", b"no-store")
        elif _is_cached(request, body):
            request.setResponseCode(304)
            return
        await send_body(request, body)

    @app.route("/packages/<path:name>", endpoint=Route(errors=Errors.PAGE))
    async def package(self, request: RegistryRequest, name: str) -> None:
        """What is known of a package, and the images that hold it."""
        async with self._turns.turn(request.network):
            body = await self._package(request, name)
        await send_body(request, body)

    async def _package(self, request: RegistryRequest, name: str) -> bytes:
        package = self._catalogue.package(name)
        asked = package.attribute if package is not None else name
        may = self._auth.may_see(request, asked if package is None else package.image)
        parts = name_parts(asked) | ({package.image} if package is not None else set())
        holding = await self._images.holding(request, parts) if may else []
        held = []
        for image in holding[:_LOOKED_INTO]:
            contents = await self._images.contents(image)
            if contents is not None:
                held.append(await in_thread(self._reactor, Held.of, image, contents, asked))
        view = PackageView(
            request.asked_host,
            request.origin.startswith("http:"),
            asked,
            package,
            [each for each in held if each is not None],
            len(holding) - len(held),
        )
        if not may or (package is None and not view.held):
            return await self._unknown(request, name)
        if prefers_html(request):
            return await send_large_page(request, self._reactor, lambda: package_page(view))
        return send_text(request, package_text(view))

    async def _unknown(self, request: RegistryRequest, name: str) -> bytes:
        """The answer where no package of a name is known, or not yet."""
        result = await self._catalogue.search("", 0)
        if result.ready or not prefers_html(request):
            title = "This package is not known here"
            text = "The package index has no package of this name, and no stored image contains it."
            raise RefusedRequest(NOT_FOUND, title, page=(title, text))
        return send_page(request, waiting_page(name, "", result.fault), 202)

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
        raise _invalid(message)
    number = fields.get("n", [str(_USUAL_RESULTS)])[0]
    if not (number.isascii() and number.isdigit() and len(number) < 10):
        raise _invalid(f"n must be a number of results; at most {MOST_RESULTS} are given")
    return query, min(int(number), MOST_RESULTS)


def _invalid(message: str) -> RefusedRequest:
    page = ("This can't be searched for", f"{message}.")
    return RefusedRequest(QUERY_INVALID, message, page=page)


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
        "outputs": package.outputs,
        "licences": package.licences,
        "available": package.available,
    }


def _is_cached(request: RegistryRequest, body: bytes) -> bool:
    """Whether a client has an answer already; says how long it may keep it."""
    tag = hashlib.sha256(body).hexdigest()[:32]
    request.setHeader(b"Cache-Control", b"max-age=%d" % _FRESH)
    request.setHeader(b"Vary", b"Accept, Authorization")
    request.setHeader(b"ETag", b'"%s"' % tag.encode("ascii"))
    return request.has_current(tag)
