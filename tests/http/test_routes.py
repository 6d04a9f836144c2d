"""The table of routes."""

import tracemalloc
from typing import Any
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st
from klein import Klein
from twisted.web.test.requesthelper import DummyChannel
from werkzeug.exceptions import NotFound

from nixery.http.request import RegistryRequest
from nixery.http.routes import NOWHERE, Route, Routes

THING = Route("manifest")
LIST = Route("blob")
LOST = Route("registry")


class Things:
    """A part that answers."""

    app = Klein()

    @app.route("/v2/<path:name>/things/<string:id>", endpoint=THING)
    def thing(self, request: RegistryRequest, name: str, id: str) -> str:
        return f"{id} of {name}"


class Lists:
    """Another one."""

    app = Klein()
    app.url_map.strict_slashes = False

    @app.route("/list", endpoint=LIST)
    def list(self, request: RegistryRequest) -> str:
        return "list"


ROUTES = Routes([Things().app, Lists().app], {b"v2": LOST})


def asked(path: bytes) -> Any:
    request = RegistryRequest(DummyChannel(), False)
    request.path, request.prepath = path, []
    request.postpath = [unquote_to_bytes(part) for part in path[1:].split(b"/")]
    return request


@pytest.mark.parametrize(
    ("path", "route", "variables"),
    [
        (b"/v2/a/things/b", THING, {"name": "a", "id": "b"}),
        (b"/v2/a/b/things/c", THING, {"name": "a/b", "id": "c"}),
        (b"/v2/a%2fb/things/%c3%a9", THING, {"name": "a/b", "id": "\u00e9"}),
        (b"/v2/a//b/things/c", THING, {"name": "a//b", "id": "c"}),
        (b"/list", LIST, {}),
        (b"/list/", LIST, {}),
        (b"/v2/a", LOST, {}),
        (b"/v2", LOST, {}),
        (b"/v2x", NOWHERE, {}),
        (b"//list", NOWHERE, {}),
        (b"/%6cist", NOWHERE, {}),
        (b"/%76%32/a/things/b", NOWHERE, {}),
        (b"/v2%2fa/things/b", NOWHERE, {}),
        (b"/", NOWHERE, {}),
        (b"*", NOWHERE, {}),
    ],
)
def test_find(path: bytes, route: Route, variables: dict[str, str]) -> None:
    """The route is that of the path's rule, of whatever app; where there is none, that of its
    first segment. A path whose first segment is in disguise is of no rule."""
    assert ROUTES.find(asked(path)) == (route, variables)


@given(st.binary(max_size=30))
def test_any_path(rest: bytes) -> None:
    """Every path has a route."""
    route, _ = ROUTES.find(asked(b"/" + rest))
    assert route in (THING, LIST, LOST, NOWHERE)


def test_long_paths() -> None:
    """A long path has its route, and is not kept in memory."""
    tracemalloc.start()
    try:
        for number in range(100):
            route, _ = ROUTES.find(asked(b"/v2/%d" % number + 16_000 * b"a" + b"/things/b"))
            assert route is THING
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 500_000


def test_answer() -> None:
    """The app of a route answers, with its variables; where there is none, nothing does."""
    assert ROUTES.answer(LIST, asked(b"/list"), {}) == "list"
    assert ROUTES.answer(THING, asked(b"/"), {"name": "a", "id": "b"}) == "b of a"
    with pytest.raises(NotFound):
        ROUTES.answer(LOST, asked(b"/v2"), {})
