"""The table of routes: what a request is for is found once, by its path."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from enum import Enum
from functools import lru_cache
from typing import Any

import attrs
from klein import Klein
from twisted.web.server import Request
from werkzeug.exceptions import HTTPException, NotFound
from werkzeug.routing import Map

from nixery.http.operation import Operation

_REMEMBERED = 1000
"""Paths whose routes are remembered."""
_LONGEST = 500
"""Characters of a path that is remembered, of four bytes each at most, and twice: its parts too."""


class Errors(Enum):
    """The form of a route's errors."""

    DOCUMENT = "the registry's error document"
    PAGE = "a page: as HTML in a browser, as text elsewhere"
    PAGE_IN_BROWSER = "a page in a browser, the error document elsewhere"


@attrs.frozen(eq=False)
class Route:
    """All that the path of a request decides. It is the endpoint of a rule of Klein's.

    :param kind: in metrics: ``manifest``, ``blob``, ``registry`` (the rest of the registry API),
        ``page`` or ``operations``.
    :param always: whether a request is taken however many others its client has: it is cheap, and
        asked to find out whether anybody is there.
    :param probe: whether it is answered at once, without credentials.
    :param public: whether it is for everybody, whatever credentials there are.
    :param token: whether clients get credentials there, so that anonymous ones may ask.
    :param operator: whether it is for operators, who show credentials of their own there, and not
        those of clients.
    :param methods: that it answers.
    :param operations: what each of them does, for programs: see :mod:`nixery.web.openapi`.
    """

    kind: str = "page"
    errors: Errors = Errors.DOCUMENT
    always: bool = False
    probe: bool = False
    public: bool = False
    token: bool = False
    operator: bool = False
    methods: Sequence[bytes] = (b"GET", b"HEAD")
    operations: Mapping[bytes, Operation] = attrs.Factory(dict)

    @property
    def in_registry(self) -> bool:
        """Whether it belongs to the registry API."""
        return self.kind in ("manifest", "blob", "registry")


NOWHERE = Route(errors=Errors.PAGE_IN_BROWSER)


class Routes:
    """The routes of several Klein apps in one table."""

    def __init__(self, apps: Iterable[Klein], unknown: Mapping[bytes, Route]) -> None:
        """
        :param unknown: for a path's first segment, the route of paths at which nothing is.
        """
        self._unknown = unknown
        self._apps: dict[Route, Klein] = {}
        table = Map(merge_slashes=False)
        for app in apps:
            for rule in app.url_map.iter_rules():
                table.add(rule.empty())
                self._apps[rule.endpoint] = app
        # An image that is pulled often is looked for once: werkzeug takes a while.
        self._match_any = table.bind("").match
        self._match = lru_cache(_REMEMBERED)(self._match_any)

    def find(self, request: Request) -> tuple[Route, Mapping[str, str]]:
        """The route of a request, and the values of its variables."""
        first, *rest = request.postpath or [b""]
        named = request.path[1:].partition(b"/")[0]
        # A first segment that is percent-encoded would hide from the rules of a proxy; of several
        # slashes in front, werkzeug would make one.
        if first == named and (first or not rest):
            path = b"/".join([b"", first, *rest]).decode("utf-8", "replace")
            match = self._match if len(path) <= _LONGEST else self._match_any
            with suppress(HTTPException):
                return match(path)
        return self._unknown.get(named, NOWHERE), {}

    def answer(self, route: Route, request: Request, variables: Mapping[str, str]) -> Any:
        """Have the handler of a route answer.

        :return: what the handler returns, or a Deferred of that.
        :raises NotFound: if there is none.
        """
        app = self._apps.get(route)
        if app is None:
            raise NotFound()
        endpoint: Any = route  # any that can be hashed, whatever Klein's annotations say
        return app.execute_endpoint(endpoint, request, **variables)
