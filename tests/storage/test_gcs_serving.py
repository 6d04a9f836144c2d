# mypy: disable-error-code="import-untyped,untyped-decorator"
"""How clients get at what is in the bucket: by signed URLs, by public ones, or through here."""

import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import attrs
import google.auth.credentials
import pytest
import pytest_twisted
from treq.client import HTTPClient
from twisted.internet import reactor as _reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import LogLevel, capturedLogs
from twisted.python.failure import Failure
from twisted.web.http_headers import Headers

from nixery.interfaces import Redirect, Stream
from nixery.model.digest import Digest
from nixery.model.limits import HttpLimits
from nixery.model.service_errors import StorageUnavailable
from nixery.storage.objects.gcs import GcsBucket, GcsStore
from nixery.storage.objects.google_credentials import Anonymous, GoogleCredentials
from nixery.storage.objects.object_store import Refused
from tests.gcs.faults import Faults
from tests.storage.backend import CONTENT, run
from tests.storage.bucket_place import HANG, HASTY, Collected
from tests.storage.gcs_place import BUCKET, GcsPlace, gcs_place
from tests.waiting import until
from tests.web.server import Collector, serving

reactor: Any = _reactor

LARGE = bytes(range(256)) * 20_000
NAME = f"layers/{Digest.of(CONTENT).hex}"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[GcsPlace]:
    context = gcs_place(tmp_path, monkeypatch.setenv)
    yield run(context.__aenter__())
    run(context.__aexit__(None, None, None))


# --- URLs -----------------------------------------------------------------------------------


def store_of(place: GcsPlace, folder: Path, now: Callable[[], float] = time.time) -> GcsStore:
    """A store that signs with a key at hand."""
    key = folder / "key.pem"
    key.write_text(place.server.account.pem)
    bucket = GcsBucket("bucket", str(key), place.server.account.email)
    return GcsStore(reactor, place.agent, bucket, place.environ, now=now)


@pytest.mark.parametrize("skew", [-55, 0, 295])
@pytest_twisted.ensureDeferred
async def test_clock_skew(place: GcsPlace, tmp_path: Path, skew: float) -> None:
    """A URL works for the whole of its life, and if the service's clock is a little behind."""
    place.server.put(NAME, CONTENT)
    url = await store_of(place, tmp_path).url(NAME, 300, HANG)
    place.server.clock.offset = skew
    assert await place.load(Redirect(url, len(CONTENT))) == CONTENT


@pytest_twisted.ensureDeferred
async def test_dated_back(place: GcsPlace, tmp_path: Path) -> None:
    """A URL is dated a minute back, and lasts a minute longer."""
    moment = datetime(2027, 1, 15, 8, tzinfo=UTC).timestamp()
    url = await store_of(place, tmp_path, lambda: moment).url(NAME, 300, HANG)
    query = parse_qs(urlsplit(url).query)
    assert query["X-Goog-Expires"] == ["360"]
    assert query["X-Goog-Date"] == ["20270115T075900Z"]


@pytest_twisted.ensureDeferred
async def test_ranges_of_signed_urls(place: GcsPlace) -> None:
    """Clients may ask for ranges by a signed URL."""
    storage = await place.open()
    location = await storage.locate(await storage.write_blob(CONTENT))
    assert isinstance(location, Redirect)
    client = HTTPClient(place.agent)
    headers = Headers({"Range": ["bytes=5-9"]})
    response = await client.get(location.url, headers=headers, reactor=reactor)
    assert (response.code, await response.content()) == (206, CONTENT[5:10])


@pytest_twisted.ensureDeferred
async def test_public(place: GcsPlace) -> None:
    """Without anything that signs, the URLs are those of a public bucket."""
    place.server.needs_token = False
    place.server.bucket.public = True
    del place.environ["GOOGLE_APPLICATION_CREDENTIALS"]
    storage = await place.open()
    location = await storage.locate(await storage.write_blob(CONTENT))
    assert location == Redirect(f"{place.server.url}/bucket/{NAME}", len(CONTENT))
    assert await place.load(location) == CONTENT
    at_google = GcsStore(reactor, place.agent, GcsBucket("b"), {}, Anonymous())
    url = "https://storage.googleapis.com/b/layers/0a"
    assert await at_google.url("layers/0a", 300, HANG) == url


class Refusing(google.auth.credentials.Signing):
    """Signs nothing."""

    token, expiry = "token", None

    def refresh(self, request: object) -> None:
        pass

    def sign_bytes(self, message: bytes) -> bytes:
        raise OSError("signBlob denied")

    @property
    def signer(self) -> Any:
        raise NotImplementedError

    @property
    def signer_email(self) -> Any:
        return "a@example.com"


@pytest_twisted.ensureDeferred
async def test_signed_elsewhere(place: GcsPlace) -> None:
    """A signer that takes the network is asked in a thread, and what it says against it is
    told."""
    credentials = GoogleCredentials(reactor, Refusing)
    store = GcsStore(reactor, place.agent, BUCKET, place.environ, credentials)
    with pytest.raises(Refused, match="no URL can be signed: signBlob denied"):
        await store.url(NAME, 300, HANG)


# --- the start ------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_start_without_a_token(place: GcsPlace) -> None:
    """A connection that is lost while a token is asked for keeps nothing from starting."""
    place.server.faults = Faults.script(token=["drop-before"])
    await place.make().start()
    assert place.server.count("token") == 2


@pytest_twisted.ensureDeferred
async def test_start_with_another_key(place: GcsPlace, tmp_path: Path) -> None:
    """A key that is not the account's, or none at all, is found out."""
    other = place.server.accounts.add("other@project.iam.gserviceaccount.com")
    path = tmp_path / "key.pem"
    account = place.server.account.email
    signing = attrs.evolve(BUCKET, signing_key=str(path), signing_account=account)
    for pem, words in (
        (None, "No such file"),
        ("no key", "holds no PEM key"),
        (other.pem, "refused with status 403.*SignatureDoesNotMatch"),
    ):
        if pem is not None:
            path.write_text(pem)
        with pytest.raises(StorageUnavailable, match=words):
            await place.make(place.store_of(signing)).start()
    path.write_text(place.server.account.pem)
    await place.make(place.store_of(signing)).start()


# --- streams --------------------------------------------------------------------------------


async def streaming(place: GcsPlace, content: bytes, hasty: bool = False) -> Stream:
    """A blob's stream."""
    patience = attrs.evolve(HASTY, limit=HANG) if hasty else HASTY
    storage = place.make(redirect=False, patience=patience)
    await storage.start()
    location = await storage.locate(await storage.write_blob(content))
    assert isinstance(location, Stream)
    return location


def _start(copying: Awaitable[None]) -> "Deferred[None]":
    async def wait() -> None:
        await copying

    return Deferred.fromCoroutine(wait())


@pytest.mark.parametrize(
    ("start", "length"), [(0, len(LARGE)), (0, 1), (5, 1000), (len(LARGE) - 7, 7), (3, 0)]
)
@pytest_twisted.ensureDeferred
async def test_parts(place: GcsPlace, start: int, length: int) -> None:
    """Any part of a blob is copied as it is."""
    location = await streaming(place, LARGE)
    assert location.size == len(LARGE)
    client = Collected()
    await location.copy(start, length, client)
    assert client.content == LARGE[start : start + length]
    assert client.producer is None


@pytest_twisted.ensureDeferred
async def test_slow_clients(place: GcsPlace) -> None:
    """A client that takes no more holds up the bucket, and gets the rest when it does again."""
    content = LARGE * 4
    location = await streaming(place, content)
    client = Collected(enough=100_000)
    copying = _start(location.copy(0, len(content), client))
    await client.paused
    await deferLater(reactor, 0.1)
    assert len(client.content) < 1_000_000
    client.go_on()
    await copying
    assert client.content == content


@pytest.mark.parametrize("fault", ["503", "drop-before", "truncate", "hang", "429", "401"])
@pytest_twisted.ensureDeferred
async def test_interrupted(place: GcsPlace, fault: Any) -> None:
    """What a fault kept away is asked for again, from where it was."""
    location = await streaming(place, LARGE, hasty=fault == "hang")
    count = 1 if fault == "401" else 2
    place.server.faults = Faults.script(object_media=[fault] * count)
    client = Collected()
    await location.copy(1000, len(LARGE) - 2000, client)
    assert client.content == LARGE[1000:-1000]
    assert len(place.server.faults.happened) == count


@pytest_twisted.ensureDeferred
async def test_not_to_be_had(place: GcsPlace) -> None:
    """What can't be had is an error: a fault that stays, an object that is gone or replaced."""
    location = await streaming(place, LARGE)
    place.server.faults = Faults(lambda kind, asked: "503")
    with pytest.raises(StorageUnavailable, match="status 503"):
        await location.copy(0, 5, Collected())
    place.server.faults = Faults()
    await place.damage(Digest.of(LARGE), LARGE[:-1])
    client = Collected()
    with pytest.raises(StorageUnavailable, match="status 404"):
        await location.copy(0, 5, client)
    assert client.content == b""


@pytest_twisted.ensureDeferred
async def test_clients_that_leave(place: GcsPlace) -> None:
    """A client that leaves in the middle ends its copying, whether that is cancelled or its
    producer stopped, and nothing is asked for anew."""
    content = LARGE * 4
    location = await streaming(place, content)
    for how in ("stop", "cancel"):
        client = Collected(enough=1000)
        copying = _start(location.copy(0, len(content), client))
        await client.paused
        before = place.server.count("object.media")
        failed: list[Failure] = []
        copying.addErrback(failed.append)
        if how == "stop":
            assert client.producer is not None
            client.producer.stopProducing()
        else:
            copying.cancel()
        await copying
        assert [failure.type for failure in failed] == [CancelledError]
        assert client.producer is None
        await until(lambda: place.server.in_flight == 0)
        assert place.server.count("object.media") == before


@pytest.mark.parametrize("silent", [False, True], ids=["answers", "answers late"])
@pytest_twisted.ensureDeferred
async def test_clients_that_leave_at_any_moment(place: GcsPlace, silent: bool) -> None:
    """Whenever a client leaves, nothing is read on for it, no connection to the bucket stays in
    use, and nothing is logged as a fault."""
    storage = place.make(redirect=False)
    await storage.start()
    digest = await storage.write_blob(LARGE * 4)
    if silent:
        place.server.faults = Faults(lambda kind, asked: "hang" if kind == "object.media" else None)
    request = f"GET /v2/x/blobs/{digest} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    with capturedLogs() as logs:
        async with serving(storage=storage) as server:
            left = []
            for number in range(200):
                client = await server.connect(Collector())
                transport: Any = client.transport
                transport.write(request)
                left.append(client.closed)
                reactor.callLater(number % 20 / 2000, transport.abortConnection)
            for closed in left:
                await closed
            place.server.release()
            await server.until(lambda: server.bounds.requests.running == 0)
            await server.until(lambda: place.server.in_flight == 0)
            await server.until(lambda: place.server.connections <= place.pool.maxPersistentPerHost)
    # Leases that other tests hold go on being kept.
    logged = [event for event in logs if not str(event.get("what")).startswith("writing leases")]
    assert [event for event in logged if event["log_level"] >= LogLevel.error] == []


@pytest_twisted.ensureDeferred
async def test_streams_that_nobody_reads(place: GcsPlace) -> None:
    """Streams whose clients take nothing are bounded: others are refused for now, with an answer
    that says nothing of the blob, and are served when there is room again."""
    storage = place.make(redirect=False)
    await storage.start()
    path = f"/v2/x/blobs/{await storage.write_blob(LARGE * 4)}"
    limits = HttpLimits(unread=150_000, client_unread=150_000)
    async with serving(storage=storage, limits=limits) as server:
        deaf = await server.connect(Collector())
        transport: Any = deaf.transport
        transport.pauseProducing()
        transport.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        await server.until(lambda: server.bounds.untaken.total > 0)
        refused = await server.ask(path)
        assert (refused.status, refused.error()["code"]) == (503, "UNAVAILABLE")
        assert "retry-after" in refused.headers
        assert not refused.headers.keys() & {"accept-ranges", "etag", "docker-content-digest"}
        transport.abortConnection()
        await server.until(lambda: server.bounds.untaken.total == 0)
        assert (await server.ask(path)).body == LARGE * 4
