"""``GET /packages`` on a real port."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any
from urllib.parse import quote

import attrs
import pytest
import pytest_twisted
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred, ensureDeferred, maybeDeferred
from twisted.internet.endpoints import TCP4ServerEndpoint

from nixery.access.guard import Guard
from nixery.http.answers import RefusedRequest
from nixery.interfaces import SearchResult
from nixery.model.rules import Patterns, Rules
from nixery.storage.memory import MemoryStorage
from nixery.web.auth import OPEN, Auth
from nixery.web.packages import parse_query
from nixery.web.pages.api import PagesApi
from nixery.web.site import make_site
from tests.web.fake_catalogue import FOUND, RIPGREP, FakeCatalogue, packages_api
from tests.web.server import FakeBuilder, Server, serving

reactor: Any = _reactor


@asynccontextmanager
async def searching(auth: Auth = OPEN) -> AsyncIterator[tuple[Server, FakeCatalogue]]:
    """Serve a catalogue for the length of a block."""
    builder, storage, catalogue = FakeBuilder(), MemoryStorage(), FakeCatalogue()
    pages, packages = PagesApi(), packages_api(catalogue, auth)
    site = make_site(reactor, builder, storage, 25, pages, packages=packages)
    port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(site)
    try:
        yield Server(builder, storage, port.getHost().port, site), catalogue
    finally:
        await maybeDeferred(port.stopListening)


@pytest_twisted.ensureDeferred
async def test_packages_that_may_not_be_pulled() -> None:
    """Only packages that the client may pull are found."""
    for pattern, found in (("ripgrep", 0), ("rip?", 1)):
        rules = Patterns(deny=(pattern,))
        async with searching(Auth(Guard(rules=partial(Rules, rules)))) as (server, _):
            answer = await server.ask("/packages?q=rip")
        assert len(json.loads(answer.body)["packages"]) == found


@pytest_twisted.ensureDeferred
async def test_what_may_be_pulled_is_found_behind_what_may_not() -> None:
    """Packages that the client may not pull take no places from those that he may."""
    others = [attrs.evolve(RIPGREP, image=f"ripgrep{number}") for number in range(200)]
    rules = Patterns(allow=("ripgrep",))
    async with searching(Auth(Guard(rules=partial(Rules, rules)))) as (server, catalogue):
        catalogue.found = attrs.evolve(FOUND, packages=[*others, RIPGREP, RIPGREP])
        answer = await server.ask("/packages?q=rip&n=1")
    assert [each["name"] for each in json.loads(answer.body)["packages"]] == ["ripgrep"]


@pytest_twisted.ensureDeferred
async def test_found() -> None:
    """Packages come with all that is known of them, and with the revision that was searched."""
    async with searching() as (server, catalogue):
        answer = await server.ask("/packages?q=rip%20Grep&n=5")
    assert catalogue.asked == [("rip Grep", 5)]
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "max-age=60"
    assert answer.body.isascii()
    assert json.loads(answer.body) == {
        "ready": True,
        "source": "folder:set",
        "revision": "abc",
        "count": 7,
        "whole": True,
        "packages": [
            {
                "name": "ripgrep",
                "attribute": "ripgrep",
                "version": "14.0",
                "description": "<script>alert('é')</script>",
                "homepage": "https://rg.example",
                "program": "rg",
                "programs": ["rg"],
                "outputs": ["out"],
                "licences": ["MIT"],
                "available": True,
            }
        ],
    }


@pytest_twisted.ensureDeferred
async def test_not_ready() -> None:
    """While there is no index the answer says so, when to come again, and what is wrong, if that
    is known; nobody keeps it."""
    async with searching() as (server, catalogue):
        catalogue.found = SearchResult(ready=False, fault="a fault")
        answer = await server.ask("/packages?q=x")
    assert answer.status == 202
    assert answer.headers["retry-after"] == "2"
    assert answer.headers["cache-control"] == "no-store"
    document = json.loads(answer.body)
    assert (document["ready"], document["packages"], document["fault"]) == (False, [], "a fault")


@pytest_twisted.ensureDeferred
async def test_conditional() -> None:
    """Who has the answer already is told so; other results have another entity tag."""
    async with searching() as (server, catalogue):
        tag = (await server.ask("/packages?q=x")).headers["etag"]
        again = await server.ask("/packages?q=x", headers={"If-None-Match": tag})
        catalogue.found = attrs.evolve(FOUND, revision="def")
        other = await server.ask("/packages?q=x", headers={"If-None-Match": tag})
    assert (again.status, again.body) == (304, b"")
    assert other.status == 200
    assert other.headers["etag"] != tag


@pytest_twisted.ensureDeferred
async def test_head() -> None:
    """HEAD has the headers of GET, and no body."""
    async with searching() as (server, _):
        head = await server.ask("/packages?q=x", "HEAD")
        got = await server.ask("/packages?q=x")
    ours = {
        name: value for name, value in got.headers.items() if name not in ("date", "x-request-id")
    }
    assert head.body == b""
    assert {name: head.headers.get(name) for name in ours} == ours


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("q=" + "x" * 200, 200),
        ("q=" + "x" * 201, 400),
        ("q=" + "+".join("abcdefghi"), 400),
        ("q=x&n=-1", 400),
        ("q=x&n=", 400),
        ("q=x&n=1e9", 400),
        ("q=x&n=" + quote("١"), 400),
        ("q=x&n=0", 200),
        ("q=%00%FF%E9", 200),
        ("", 200),
    ],
)
async def test_limits(query: str, status: int) -> None:
    """A query has limits, and what is beyond them is refused in words."""
    async with searching() as (server, _):
        answer = await server.ask(f"/packages?{query}")
    assert answer.status == status
    if status == 400:
        assert answer.error()["code"] == "QUERY_INVALID"


@pytest_twisted.ensureDeferred
async def test_other_methods_and_paths() -> None:
    """There is one path, it is only read, and without a catalogue it is not there."""
    async with searching() as (server, _):
        assert (await server.ask("/packages/x")).status == 404
        assert (await server.ask("/packages/")).status == 404
        assert (await server.ask("/packages?q=x", "POST")).status == 405
    async with serving() as server:
        assert (await server.ask("/packages?q=x")).status == 404


@pytest_twisted.ensureDeferred
async def test_fault() -> None:
    """What goes wrong here is not told to everybody."""
    async with searching() as (server, catalogue):
        catalogue.error = RuntimeError("a secret")
        answer = await server.ask("/packages?q=x")
    assert answer.status == 500
    assert b"secret" not in answer.body


@given(st.binary(max_size=100))
def test_any_query(query: bytes) -> None:
    """Whatever is asked is a query within the limits, or refused."""
    try:
        text, limit = parse_query(b"/packages?" + query)
    except RefusedRequest:
        return
    assert len(text) <= 200
    assert 0 <= limit <= 100


@pytest_twisted.ensureDeferred
async def test_one_at_a_time() -> None:
    """However many search at once, one search is worked at, and others are answered meanwhile."""
    async with searching() as (server, catalogue):
        catalogue.gate = Deferred()
        asked = [ensureDeferred(server.ask(f"/packages?q={number}")) for number in range(5)]
        await server.until(lambda: server.bounds.requests.running == 5)
        assert (await server.ask("/v2/")).status == 200
        assert len(catalogue.asked) == 1
        gate, catalogue.gate = catalogue.gate, None
        gate.callback(None)
        assert {(await each).status for each in asked} == {200}
        assert len(catalogue.asked) == 5
