# mypy: disable-error-code="import-untyped,untyped-decorator"
"""Uploads keep to Google's rules."""

import base64
import json

import google_crc32c
import pytest
import pytest_twisted

from tests.gcs.asking import UPLOAD, Asker
from tests.gcs.server import GcsServer
from tests.gcs.sessions import LIFETIME, UNIT

DATA = bytes(range(256)) * (UNIT // 256)
CRC = base64.b64encode(google_crc32c.value(DATA).to_bytes(4, "big")).decode()


@pytest_twisted.ensureDeferred
async def test_chunks(server: GcsServer, asker: Asker) -> None:
    """Chunks make an object, which is not there before the last one."""
    path = await asker.start("name")
    assert "range" not in (await asker.chunk(path, "*/*")).headers
    got = await asker.chunk(path, f"0-{UNIT - 1}/*", DATA)
    assert (got.status, got.headers["range"]) == (308, f"bytes=0-{UNIT - 1}")
    assert not server.objects
    got = await asker.chunk(path, f"{UNIT}-{UNIT + 3}/{UNIT + 4}", b"rest")
    assert (got.status, json.loads(got.body)["size"]) == (200, str(UNIT + 4))
    assert server.content("name") == DATA + b"rest"
    for span in ("*/*", f"*/{UNIT + 4}"):
        assert (await asker.chunk(path, span)).status == 200


@pytest_twisted.ensureDeferred
async def test_status_does_not_finish(server: GcsServer, asker: Asker) -> None:
    """A question for the status changes nothing; saying the size that is there ends the upload."""
    path = await asker.start("name")
    await asker.chunk(path, f"0-{UNIT - 1}/*", DATA)
    for span in ("*/*", f"*/{UNIT + 1}"):
        got = await asker.chunk(path, span)
        assert (got.status, got.headers["range"]) == (308, f"bytes=0-{UNIT - 1}")
    assert not server.objects
    assert (await asker.chunk(path, f"*/{UNIT}")).status == 200
    assert server.content("name") == DATA


@pytest.mark.parametrize(
    ("span", "body"),
    [
        ("0-3/*", b"four"),
        (f"0-{UNIT}/*", DATA + b"!"),
        ("0-3/5", b"four"),
        ("0-4/5", b"four"),
        ("0-3/3", b"four"),
        ("0-*/*", b"four"),
        ("nonsense", b"four"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_bad_chunk(server: GcsServer, asker: Asker, span: str, body: bytes) -> None:
    """A chunk that isn't the last one is a multiple of 256 KiB, and has the size it says."""
    path = await asker.start("name")
    assert (await asker.chunk(path, span, body)).status == 400
    assert "range" not in (await asker.chunk(path, "*/*")).headers


@pytest_twisted.ensureDeferred
async def test_overlap_and_gap(server: GcsServer, asker: Asker) -> None:
    """What is there already is passed over; what would leave a gap is refused."""
    path = await asker.start("name")
    assert (await asker.chunk(path, f"{UNIT}-{2 * UNIT - 1}/*", DATA)).status == 503
    for _ in range(2):
        got = await asker.chunk(path, f"0-{UNIT - 1}/*", DATA)
        assert got.headers["range"] == f"bytes=0-{UNIT - 1}"
    got = await asker.chunk(path, f"0-{2 * UNIT - 1}/{2 * UNIT}", bytes(UNIT) + DATA)
    assert got.status == 200
    assert server.content("name") == DATA + DATA


@pytest_twisted.ensureDeferred
async def test_one_request(server: GcsServer, asker: Asker) -> None:
    """A request without a range carries the whole object, of a length that it may not know."""
    path = await asker.start("name")
    assert (await asker.ask("PUT", path, iter([DATA, b"rest"]))).status == 200
    assert server.content("name") == DATA + b"rest"


@pytest_twisted.ensureDeferred
async def test_sessions_end(server: GcsServer, asker: Asker) -> None:
    """A session ends when it is cancelled, and after a week; others there are none."""
    path = await asker.start("name")
    assert (await asker.ask("DELETE", path)).status == 499
    assert (await asker.chunk(path, "*/*")).status == 499
    path = await asker.start("name")
    assert (await asker.chunk(path + "x", "*/*")).status == 404
    server.clock.offset = LIFETIME + 1
    server.token = server.accounts.issue()
    assert (await asker.chunk(path, "*/*")).status == 410


@pytest_twisted.ensureDeferred
async def test_cut_off(server: GcsServer, asker: Asker) -> None:
    """Of a request whose connection is lost in its middle, whole units are kept."""
    path = await asker.start("name")

    def body() -> object:
        yield DATA
        yield DATA[:-1]
        raise OSError

    assert (await asker.ask("PUT", path, body())).lost
    while True:
        got = await asker.chunk(path, "*/*")
        if "range" in got.headers:
            break
    assert got.headers["range"] == f"bytes=0-{UNIT - 1}"
    got = await asker.chunk(path, f"{UNIT}-{UNIT}/{UNIT + 1}", b"!")
    assert server.content("name") == DATA + b"!"


@pytest_twisted.ensureDeferred
async def test_checksums(server: GcsServer, asker: Asker) -> None:
    """Content that doesn't have the checksum it came with is refused, in every way of upload."""
    good, bad = f"crc32c={CRC}", "crc32c=AAAAAA=="
    assert (await asker.upload("one", DATA, x_goog_hash=good)).status == 200
    assert (await asker.upload("two", DATA, x_goog_hash=bad)).status == 400
    path = await asker.start("three")
    span = f"0-{UNIT - 1}/{UNIT}"
    assert (await asker.chunk(path, span, DATA, x_goog_hash=bad)).status == 400
    path = await asker.start("four")
    assert (await asker.chunk(path, span, DATA, x_goog_hash=good)).status == 200
    body = json.dumps({"name": "five", "crc32c": "AAAAAA=="})
    multipart = f"--x\r\n\r\n{body}\r\n--x\r\nContent-Type: a/b\r\n\r\n".encode() + DATA
    got = await asker.ask(
        "POST",
        f"{UPLOAD}?uploadType=multipart",
        multipart + b"\r\n--x--\r\n",
        Content_Type="multipart/related; boundary=x",
    )
    assert got.status == 400
    assert set(server.objects) == {"one", "four"}


@pytest_twisted.ensureDeferred
async def test_conditions(server: GcsServer, asker: Asker) -> None:
    """A condition is checked when an upload begins, and again when it ends."""
    path = await asker.start("name", "&ifGenerationMatch=0")
    server.put("name", b"somebody's")
    assert (await asker.chunk(path, "0-3/4", b"mine")).status == 412
    for kind in ("resumable", "media"):
        target = f"{UPLOAD}?uploadType={kind}&name=name&ifGenerationMatch="
        assert (await asker.ask("POST", target + "0", b"")).status == 412
    generation = server.objects["name"].generation
    assert (await asker.upload("name", b"m", f"&ifGenerationMatch={generation}")).status == 200

    def be_faster(name: str) -> None:
        server.put(name, b"somebody's")

    server.bucket.before_write = be_faster
    assert (await asker.upload("new", b"m", "&ifGenerationMatch=0")).status == 412
    assert (server.content("name"), server.content("new")) == (b"m", b"somebody's")


@pytest_twisted.ensureDeferred
async def test_full(server: GcsServer, asker: Asker) -> None:
    """Without room, nothing may be written; what is there may be read and deleted."""
    path = await asker.start("name")
    server.put("old", b"old")
    server.bucket.full = True
    got = await asker.upload("new", b"new")
    assert (got.status, json.loads(got.body)["error"]["errors"][0]["reason"]) == (
        403,
        "quotaExceeded",
    )
    assert (await asker.chunk(path, "0-0/1", b"!")).status == 403
    assert (await asker.ask("DELETE", "/storage/v1/b/bucket/o/old")).status == 204
    assert not server.objects


@pytest_twisted.ensureDeferred
async def test_slow_reader(server: GcsServer, asker: Asker) -> None:
    """A server that reads slowly has the whole body in the end."""
    server.read_delay = 0.02
    assert (await asker.upload("name", DATA * 8)).status == 200
    assert server.content("name") == DATA * 8
