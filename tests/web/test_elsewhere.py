# mypy: disable-error-code="import-untyped,untyped-decorator"
"""Blobs that lie in a bucket, as clients of the registry see them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import pytest_twisted
from twisted.internet.interfaces import IConsumer
from twisted.internet.protocol import Protocol
from twisted.internet.task import deferLater
from twisted.logger import LogLevel, capturedLogs, formatEvent

from nixery.interfaces import Redirect, Stream
from nixery.model.digest import Digest
from nixery.model.service_errors import StorageUnavailable
from tests.gcs.faults import Faults
from tests.storage.bucket_place import HASTY
from tests.storage.gcs_place import GcsPlace, gcs_place
from tests.web.multipart import read_parts
from tests.web.server import Collector, Locating, Server, reactor, serving

CONTENT = bytes(range(256)) * 40_000
DIGEST = str(Digest.of(CONTENT))
PATH = f"/v2/a/blobs/{DIGEST}"
REQUEST = f"GET {PATH} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n".encode()


@asynccontextmanager
async def streaming(folder: Path, setenv: Any) -> AsyncIterator[tuple[GcsPlace, Server]]:
    """A registry that copies blobs out of a bucket which holds one."""
    async with gcs_place(folder, setenv) as place:
        storage = place.make(redirect=False, patience=attrs.evolve(HASTY, tries=2))
        await storage.start()
        await storage.write_blob(CONTENT)
        async with serving(storage=storage) as server:
            yield place, server


@pytest_twisted.ensureDeferred
async def test_head_of_a_redirect() -> None:
    """HEAD is answered here: a URL that is signed for GET is good for nothing else."""
    location = Redirect("https://example.com/blob?signature=1", 1234)
    async with serving(storage=Locating(location=location)) as server:
        answer = await server.ask(PATH, "HEAD")
        assert (answer.status, answer.body) == (200, b"")
        assert answer.headers["content-length"] == "1234"
        assert answer.headers["docker-content-digest"] == DIGEST
        assert "location" not in answer.headers


@pytest_twisted.ensureDeferred
async def test_whole_and_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A blob that is copied through is served as any other: whole, in parts, and to HEAD."""
    async with streaming(tmp_path, monkeypatch.setenv) as (place, server):
        answer = await server.ask(PATH)
        assert (answer.status, answer.body) == (200, CONTENT)
        assert answer.headers["docker-content-digest"] == DIGEST
        answer = await server.ask(PATH, headers={"Range": "bytes=5-100004"})
        assert (answer.status, answer.body) == (206, CONTENT[5:100_005])
        assert answer.headers["content-range"] == f"bytes 5-100004/{len(CONTENT)}"
        several = [(0, 1), (9, 3_000_009), (4_000_000, len(CONTENT))]
        header = ",".join(f"{start}-{end - 1}" for start, end in several)
        answer = await server.ask(PATH, headers={"Range": f"bytes={header}"})
        parts = read_parts(answer.headers["content-type"], answer.body)
        assert parts == [(s, e, len(CONTENT), CONTENT[s:e]) for s, e in several]
        before = place.server.count("object.media")
        answer = await server.ask(PATH, "HEAD")
        assert (answer.status, answer.headers["content-length"]) == (200, str(len(CONTENT)))
        answer = await server.ask(PATH, headers={"Range": f"bytes={len(CONTENT)}-"})
        assert answer.status == 416
        assert place.server.count("object.media") == before


@pytest_twisted.ensureDeferred
async def test_a_bucket_that_is_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If not a byte is to be had, that is said, without a trace of the blob's own headers."""
    async with streaming(tmp_path, monkeypatch.setenv) as (place, server):
        place.server.faults = Faults(lambda kind, asked: "503" if "media" in kind else None)
        answer = await server.ask(PATH, headers={"Range": "bytes=5-9"})
        assert (answer.status, answer.error()["code"]) == (503, "UNAVAILABLE")
        assert "content-range" not in answer.headers
        assert "etag" not in answer.headers
        assert answer.headers["server"] == "nixery"
        assert answer.headers["x-request-id"]
        assert int(answer.headers["content-length"]) == len(answer.body)


@pytest_twisted.ensureDeferred
async def test_cut_in_the_middle() -> None:
    """If the bytes end too early, so does the connection: nothing is made up."""

    async def copy(start: int, length: int, consumer: IConsumer) -> None:
        consumer.write(b"some")
        raise StorageUnavailable("it is a test")

    async with serving(storage=Locating(location=Stream(100, copy))) as server:
        answer = await server.send(REQUEST)
        assert answer.endswith(b"\r\n\r\nsome")


@pytest_twisted.ensureDeferred
async def test_clients_that_leave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that closes its connection in the middle ends the copying, is no fault, and
    disturbs nobody."""
    async with streaming(tmp_path, monkeypatch.setenv) as (place, server):
        with capturedLogs() as captured:
            for _ in range(3):
                leaver = await server.connect(Leaver())
                leaver.transport.write(REQUEST)  # type: ignore[union-attr]
                await leaver.closed
            while place.server.in_flight:
                await deferLater(reactor, 0.01, lambda: None)
            await deferLater(reactor, 0.05, lambda: None)
        assert (await server.ask(PATH)).body == CONTENT
        errors = [event for event in captured if event["log_level"] > LogLevel.warn]
        assert [formatEvent(event) for event in errors] == []
        assert place.server.count("object.media") == 4


class Leaver(Collector):
    """A client that leaves when it has got a little."""

    def dataReceived(self, data: bytes) -> None:
        super().dataReceived(data)
        self.transport.abortConnection()  # type: ignore[union-attr]


class Idler(Protocol):
    """A client that reads nothing once it has been answered."""

    def dataReceived(self, data: bytes) -> None:
        self.transport.pauseProducing()  # type: ignore[union-attr]


@pytest_twisted.ensureDeferred
async def test_slow_clients_hold_up_the_bucket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What clients do not read stays in the bucket, rather than fill memory."""
    large = CONTENT * 3  # more than the buffers between bucket and client
    async with streaming(tmp_path, monkeypatch.setenv) as (place, server):
        digest = await server.storage.write_blob(large)
        request = REQUEST.replace(DIGEST.encode(), str(digest).encode())
        clients = [await server.connect(Idler()) for _ in range(3)]
        for client in clients:
            client.transport.write(request)  # type: ignore[union-attr]
        while place.server.count("object.media") < 3:
            await deferLater(reactor, 0.01, lambda: None)
        await deferLater(reactor, 0.5, lambda: None)
        assert place.server.in_flight == 3
        for client in clients:
            client.transport.abortConnection()  # type: ignore[union-attr]
