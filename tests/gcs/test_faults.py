# mypy: disable-error-code="import-untyped,untyped-decorator"
"""Faults befall requests when they should, with the effects they should have."""

import json

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from tests.gcs.asking import OBJECTS, Asker
from tests.gcs.bucket_server import reactor
from tests.gcs.faults import FAULTS, Fault, Faults, fits
from tests.gcs.objects import Content
from tests.gcs.routes import KINDS
from tests.gcs.server import GcsServer
from tests.gcs.sessions import UNIT


@pytest.mark.parametrize("fault", ["503", "500", "429", "401"])
@pytest_twisted.ensureDeferred
async def test_errors(server: GcsServer, asker: Asker, fault: Fault) -> None:
    """An error comes once, and the request has no effect."""
    server.faults = Faults.each_once([fault])
    got = await asker.upload("name", b"content")
    assert got.status == int(fault)
    assert ("retry-after" in got.headers) == (fault == "429")
    assert not server.objects
    assert (await asker.upload("name", b"content")).status == 200
    assert server.faults.happened == [("upload.media", fault)]


@pytest_twisted.ensureDeferred
async def test_drops(server: GcsServer, asker: Asker) -> None:
    """A connection is lost before or after the effect."""
    server.faults = Faults.each_once(["drop-before", "drop-after"])
    assert (await asker.upload("name", b"content")).lost
    assert not server.objects
    assert (await asker.upload("name", b"content")).lost
    assert server.content("name") == b"content"
    assert [logged.status for logged in server.requests] == [None, None]
    assert server.in_flight == 0


@pytest_twisted.ensureDeferred
async def test_partly(server: GcsServer, asker: Asker) -> None:
    """Half of a chunk may be kept, whether that is said or the connection is lost."""
    path = await asker.start("name")
    server.faults = Faults.script(upload_chunk=["drop-midway", "short"])
    data = bytes(2 * UNIT)
    assert (await asker.chunk(path, f"0-{2 * UNIT - 1}/{2 * UNIT}", data)).lost
    got = await asker.chunk(path, "*/*")
    assert got.headers["range"] == f"bytes=0-{UNIT - 1}"
    end = 3 * UNIT - 1
    got = await asker.chunk(path, f"{UNIT}-{end}/{end + 1}", data)
    assert (got.status, got.headers["range"]) == (308, f"bytes=0-{2 * UNIT - 1}")


@pytest_twisted.ensureDeferred
async def test_hang(server: GcsServer, asker: Asker) -> None:
    """A request that hangs takes its effect late, or took it already, and is answered then."""
    server.faults = Faults.each_once(["hang", "hang-after"])
    early = Deferred.fromCoroutine(asker.upload("early", b""))
    await _until(server, 1)
    late = Deferred.fromCoroutine(asker.upload("late", b""))
    await _until(server, 2)
    assert list(server.objects) == ["late"]
    server.release()
    assert ((await early).status, (await late).status) == (200, 200)
    assert server.most_in_flight == 2
    assert list(server.objects) == ["late", "early"]


@pytest_twisted.ensureDeferred
async def test_bad_bodies(server: GcsServer, asker: Asker) -> None:
    """A body may be cut or have another bit, a checksum may be another one."""
    server.put("name", b"content")
    server.faults = Faults.each_once(["truncate", "flip", "lie"])
    path = f"{OBJECTS}/name?alt=media"
    assert (await asker.ask("GET", path)).lost
    got = await asker.ask("GET", path)
    assert len(got.body) == 7
    assert got.body != b"content"
    assert Content.of(b"content").crc32c in got.headers["x-goog-hash"]
    got = await asker.ask("GET", path)
    assert (got.body, got.headers["x-goog-hash"][:15]) == (b"content", "crc32c=AAAAAA==")
    assert (await asker.ask("GET", path)).body == b"content"
    server.faults = Faults.each_once(["lie"])
    got = await asker.ask("GET", f"{OBJECTS}/name")
    assert json.loads(got.body)["crc32c"] == "AAAAAA=="


@pytest_twisted.ensureDeferred
async def test_each(server: GcsServer, asker: Asker) -> None:
    """Each kind of request, or each request, goes through the faults that fit it."""
    server.put("a", b"")
    server.put("b", b"")
    server.faults = Faults.each_once(["503", "410", "429"])
    asked = [(await asker.ask("GET", f"{OBJECTS}/{name}")).status for name in "abab"]
    assert asked == [503, 429, 200, 200]
    assert (await asker.ask("GET", OBJECTS)).status == 503
    server.faults = Faults.each_request_once(["503"], kinds=["object.get"])
    asked = [(await asker.ask("GET", f"{OBJECTS}/{name}")).status for name in "abab"]
    assert asked == [503, 503, 200, 200]
    assert (await asker.ask("GET", OBJECTS)).status == 200


@pytest_twisted.ensureDeferred
async def test_share(server: GcsServer, asker: Asker) -> None:
    """Chance is the same at every run."""
    runs = []
    for _ in range(2):
        server.faults = Faults.share(0.5, ["503", "429"], seed=7)
        runs.append([(await asker.ask("GET", OBJECTS)).status for _ in range(20)])
    assert runs[0] == runs[1]
    assert set(runs[0]) == {200, 503, 429}


def test_fits() -> None:
    """Every fault fits some kind, and every kind meets some."""
    assert all(any(fits(fault, kind) for kind in KINDS) for fault in FAULTS)
    assert not fits("401", "signed.get")
    assert not fits("flip", "object.get")


async def _until(server: GcsServer, count: int) -> None:
    """Wait until so many requests have come."""
    while len(server.requests) < count:
        await deferLater(reactor, 0.01, lambda: None)
