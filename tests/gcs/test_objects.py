# mypy: disable-error-code="import-untyped,untyped-decorator"
"""Objects are read, listed, copied and changed as Google does."""

import json
from typing import Any

import pytest
import pytest_twisted

from tests.gcs.asking import OBJECTS, Asker, Got
from tests.gcs.objects import Content
from tests.gcs.server import GcsServer


def names(got: Got) -> list[str]:
    """The names in a list."""
    return [item["name"] for item in json.loads(got.body).get("items", [])]


@pytest.mark.parametrize(
    ("span", "status", "body"),
    [
        ("bytes=0-2", 206, b"con"),
        ("bytes=3-", 206, b"tent"),
        ("bytes=-2", 206, b"nt"),
        ("bytes=-99", 206, b"content"),
        ("bytes=2-99", 206, b"ntent"),
        ("bytes=7-", 416, None),
        ("lines=1-2", 200, b"content"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_ranges(
    server: GcsServer, asker: Asker, span: str, status: int, body: bytes | None
) -> None:
    """A range of an object's bytes comes with the checksums of all of them."""
    found = server.put("name", b"content")
    got = await asker.ask("GET", f"{OBJECTS}/name?alt=media", Range=span)
    assert got.status == status
    if body is not None:
        assert got.body == body
        expected = f"crc32c={found.content.crc32c},md5={found.content.md5}"
        assert got.headers["x-goog-hash"] == expected


@pytest_twisted.ensureDeferred
async def test_list(server: GcsServer, asker: Asker) -> None:
    """A list has pages, prefixes and an order."""
    for name in ("b/2", "a", "b/1", "c"):
        server.put(name, b"")
    assert names(await asker.ask("GET", OBJECTS)) == ["a", "b/1", "b/2", "c"]
    got = await asker.ask("GET", f"{OBJECTS}?maxResults=3")
    token = json.loads(got.body)["nextPageToken"]
    assert names(await asker.ask("GET", f"{OBJECTS}?pageToken={token}")) == ["c"]
    assert names(await asker.ask("GET", f"{OBJECTS}?prefix=b/")) == ["b/1", "b/2"]
    got = await asker.ask("GET", f"{OBJECTS}?delimiter=/")
    assert (names(got), json.loads(got.body)["prefixes"]) == (["a", "c"], ["b/"])
    got = await asker.ask("GET", f"{OBJECTS}?fields=items(name,size),nextPageToken&prefix=a")
    assert json.loads(got.body) == {"items": [{"name": "a", "size": "0"}]}


@pytest_twisted.ensureDeferred
async def test_rewrite(server: GcsServer, asker: Asker) -> None:
    """A rewrite takes as many calls as it takes, and its conditions hold in each of them."""
    server.api.rewrite_calls = 2
    source = server.put("from", b"content")
    path = f"{OBJECTS}/from/rewriteTo/b/bucket/o/to?ifGenerationMatch=0"
    path += f"&ifSourceGenerationMatch={source.generation}"
    first: dict[str, Any] = json.loads((await asker.ask("POST", path)).body)
    assert (first["done"], "to" in server.objects) == (False, False)
    wrong = f"{OBJECTS}/from/rewriteTo/b/bucket/o/other?rewriteToken={first['rewriteToken']}"
    assert (await asker.ask("POST", wrong)).status == 400
    again = f"{path}&rewriteToken={first['rewriteToken']}"
    assert json.loads((await asker.ask("POST", again)).body)["done"]
    assert server.content("to") == b"content"
    assert (await asker.ask("POST", again)).status == 412
    server.put("from", b"other")
    assert (await asker.ask("POST", path)).status == 412


@pytest_twisted.ensureDeferred
async def test_generations(server: GcsServer, asker: Asker) -> None:
    """Each writing makes a generation, each change a metageneration; conditions name them."""
    old = server.put("name", b"old").generation
    new = server.put("name", b"new").generation
    assert new > old
    path = f"{OBJECTS}/name"
    for query, status in {
        f"?generation={old}": 404,
        f"?generation={new}": 200,
        f"?ifGenerationMatch={old}": 412,
        f"?ifGenerationNotMatch={new}": 304,
        f"?ifGenerationNotMatch={old}": 200,
        "?ifMetagenerationMatch=2": 412,
        "?ifMetagenerationMatch=x": 400,
    }.items():
        assert (await asker.ask("GET", path + query)).status == status
    patch = path + "?ifMetagenerationMatch=1"
    for status in (200, 412):
        assert (await asker.ask("PATCH", patch, '{"metadata": {"a": "b"}}')).status == status
    assert server.objects["name"].metageneration == 2
    assert (await asker.ask("DELETE", f"{path}?ifGenerationMatch={old}")).status == 412
    assert (await asker.ask("DELETE", f"{path}?ifGenerationMatch={new}")).status == 204
    assert (await asker.ask("DELETE", path)).status == 404


@pytest_twisted.ensureDeferred
async def test_clock(server: GcsServer, asker: Asker) -> None:
    """All times are the clock's."""
    server.clock.frozen = 0
    server.token = server.accounts.issue()
    server.put("name", b"")
    got = await asker.ask("GET", f"{OBJECTS}/name")
    assert json.loads(got.body)["timeCreated"] == "1970-01-01T00:00:00.000Z"
    assert got.headers["date"] == "Thu, 01 Jan 1970 00:00:00 GMT"


@pytest_twisted.ensureDeferred
async def test_damage(server: GcsServer, asker: Asker) -> None:
    """Damage leaves the checksums and the generation as they were."""
    found = server.put("name", b"content")
    server.damage("name", b"damaged")
    got = await asker.ask("GET", f"{OBJECTS}/name?alt=media")
    assert got.body == b"damaged"
    assert Content.of(b"content").crc32c in got.headers["x-goog-hash"]
    assert got.headers["x-goog-generation"] == str(found.generation)
    server.damage("name", None)
    assert (await asker.ask("GET", f"{OBJECTS}/name")).status == 404
