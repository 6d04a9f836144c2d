# mypy: disable-error-code="import-untyped,untyped-decorator"
"""What goes wrong between here and the bucket, and what comes of it, whichever service has it."""

import re
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.logger import capturedLogs, formatEvent
from twisted.web.http_headers import Headers

from nixery.interfaces import Redirect
from nixery.model.digest import Digest
from nixery.model.request_errors import BlobUnknown
from nixery.model.service_errors import StorageUnavailable
from nixery.storage.objects.http_client import HttpAnswer
from nixery.storage.objects.object_storage import ObjectStorage
from tests.gcs.faults import Fault, Faults
from tests.storage.backend import CONTENT, KEY, LIMIT, descriptor, exercise, store, write
from tests.storage.bucket_place import STEP, BucketPlace

pytestmark = pytest.mark.early

reactor: Any = _reactor

LARGE = bytes(range(256)) * (10 * STEP // 256) + b"the rest"
HUGE = bytes(10_000_000)  # more than a pipe and two chunks hold
PASSING: list[Fault] = [
    *("503", "500", "429", "401", "drop-before", "drop-midway", "drop-after"),
    *("hang", "hang-after", "short", "truncate"),
]


async def use(place: BucketPlace, storage: ObjectStorage) -> None:
    """All that a storage is used for; what clients do then is not ours."""
    location = await exercise(storage, LARGE)
    place.server.faults = Faults()
    assert await place.load(location) == LARGE


@pytest.mark.parametrize("fault", PASSING)
@pytest_twisted.ensureDeferred
async def test_each_fault_once(place: BucketPlace, fault: Fault) -> None:
    """Whatever befalls the first sending of every request, all comes out as it should."""
    storage = place.make_hasty()
    await storage.start()
    place.server.faults = Faults.each_request_once([fault])
    faults = place.server.faults
    await use(place, storage)
    assert {happened for _, happened in faults.happened} == {fault}
    assert not [name for name in place.server.objects if name.startswith(("staging", "leases"))]


@pytest.mark.parametrize("seed", range(3))
@pytest_twisted.ensureDeferred
async def test_many_faults(place: BucketPlace, seed: int) -> None:
    """With a fault in every sixth request, all comes out as it should."""
    storage = place.make_hasty()
    await storage.start()
    place.server.faults = Faults.share(0.16, [*PASSING, *place.faults], seed)
    faults = place.server.faults
    await use(place, storage)
    assert faults.happened


# --- uploads --------------------------------------------------------------------------------


@pytest.mark.parametrize("number", range(2))
@pytest_twisted.ensureDeferred
async def test_lost_upload(place: BucketPlace, number: int) -> None:
    """An upload that is gone at the service fails; the next one of the same blob does not."""
    storage = await place.open()
    place.server.faults = Faults.script(**place.lost_uploads[number])
    upload = await storage.receive()
    with pytest.raises(BrokenPipeError):
        await write(upload, HUGE)
    assert isinstance(upload.fault, StorageUnavailable)
    with pytest.raises(StorageUnavailable, match="lost on the way"):
        await upload.commit(Digest.of(HUGE), len(HUGE))
    assert await store(storage, HUGE) == Digest.of(HUGE)


@pytest_twisted.ensureDeferred
async def test_what_arrived_is_compared(place: BucketPlace) -> None:
    """A blob that the service stored with another checksum is not taken for whole."""
    storage = await place.open()
    place.server.faults = Faults.script(upload_media=["lie"])
    with pytest.raises(StorageUnavailable, match="others arrived"):
        await storage.write_blob(CONTENT)
    place.server.faults = Faults.script(**place.lie)
    with pytest.raises(StorageUnavailable, match="others arrived"):
        await store(storage, LARGE)
    assert await storage.missing_blobs([descriptor(LARGE)]) == [Digest.of(LARGE)]


@pytest_twisted.ensureDeferred
async def test_what_comes_is_compared(place: BucketPlace) -> None:
    """A small blob whose content is another one than its digest says is dropped."""
    storage = await place.open()
    digest = await storage.write_blob(CONTENT)
    other = await place.open()
    place.server.damage(f"layers/{digest.hex}", CONTENT[:-1] + b"!")
    with pytest.raises(BlobUnknown):
        await other.read_blob(digest, LIMIT)
    assert await storage.missing_blobs([descriptor(CONTENT)]) == [digest]


# --- what does not pass ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "words"), [("503", "status 503"), ("drop-before", "connection"), ("hang", "within")]
)
@pytest_twisted.ensureDeferred
async def test_faults_that_stay(place: BucketPlace, fault: Fault, words: str) -> None:
    """A fault that does not pass is given up after a few tries, with an error that names it."""
    storage = place.make_hasty()
    await storage.start()
    before = len(place.server.requests)
    place.server.faults = Faults(lambda kind, asked: fault)
    with pytest.raises(StorageUnavailable, match=f"reading {KEY}.*{words}"):
        await storage.read_record(KEY)
    # The agent repeats a GET whose kept connection was lost once of itself.
    assert 5 <= len(place.server.requests) - before <= 12


@pytest_twisted.ensureDeferred
async def test_what_is_refused(place: BucketPlace) -> None:
    """What may not be done is not tried again, and the error has the service's words."""
    storage = await place.open()
    place.forbid("write")
    before = place.server.count("upload.media")
    with pytest.raises(StorageUnavailable, match=f"403.*{re.escape(place.permissions['write'])}"):
        await storage.write_record(KEY, b"")
    assert place.server.count("upload.media") == before + 1


@pytest_twisted.ensureDeferred
async def test_no_secrets(place: BucketPlace) -> None:
    """Neither errors nor log lines hold a token, a key, an upload's name at the service, or a
    signature."""
    storage = await place.open()
    server = place.server
    errors: list[str] = []
    with capturedLogs() as captured:
        location = await storage.locate(await storage.write_blob(CONTENT))
        for fault in ("503", "drop-before", "410"):
            server.faults = Faults(lambda kind, asked, f=fault: f if "chunk" in kind else None)  # type: ignore[misc]
            upload = await storage.receive()
            with pytest.raises(BrokenPipeError):
                await write(upload, HUGE)
            with pytest.raises(StorageUnavailable) as raised:
                await upload.commit(Digest.of(HUGE), len(HUGE))
            errors.append(str(raised.value))
    assert isinstance(location, Redirect)
    ours = [event for event in captured if event["log_namespace"].startswith("nixery.")]
    text = "\n".join([*errors, *map(formatEvent, ours)])
    assert "uploading staging/" in text
    secrets = [*place.secrets(), location.url.rpartition("=")[2]]
    assert len(secrets) >= 4
    assert not [secret for secret in secrets if secret in text]


def test_reasons() -> None:
    """What the service says is told in a line, without the query of any URL in it."""
    text = "see https://example.com/upload?upload_id=secret\nand http://h?a=secret&b=secret now"
    answer = HttpAnswer(500, Headers(), text.encode() + b"\xff")
    for reason in (answer.reason(text), answer.reason()):
        assert reason.startswith("status 500 (see https://example.com/upload and http://h ")
        assert "secret" not in reason
        assert "\n" not in reason
    assert HttpAnswer(500, Headers(), b"").reason() == "status 500"


# --- knowledge ------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_what_is_known_is_not_asked(place: BucketPlace) -> None:
    """A blob, a record and an image that were just used cost no request."""
    storage = place.make(trust=60)
    await storage.write_record(KEY, b"record")
    digest = await storage.write_blob(CONTENT)
    await store(storage, LARGE)
    first = await storage.locate(digest)
    before = len(place.server.requests)
    assert await storage.read_record(KEY) == b"record"
    assert await storage.read_blob(digest, LIMIT) == CONTENT
    assert await storage.missing_blobs([descriptor(CONTENT), descriptor(LARGE)]) == []
    assert await storage.locate(digest) == first
    assert len(place.server.requests) == before


@pytest_twisted.ensureDeferred
async def test_records_of_other_instances(place: BucketPlace) -> None:
    """What another instance has written a moment ago is read by who asks for it, whatever is
    known here."""
    storage, other = place.make(trust=60), place.make(trust=60)
    await storage.write_record(KEY, b"old")
    await other.write_record(KEY, b"new")
    assert await storage.read_record(KEY) == b"old"
    assert await storage.read_record(KEY, fresh=True) == b"new"
    assert await storage.read_record(KEY) == b"new"


@pytest_twisted.ensureDeferred
async def test_what_is_known_serves(place: BucketPlace) -> None:
    """While the bucket can't be reached, what was known a moment ago is served; what was never
    known is not."""
    storage = await place.open()
    await storage.write_record(KEY, b"record")
    digest = await storage.write_blob(CONTENT)
    await storage.read_blob(digest, LIMIT)
    place.server.faults = Faults(lambda kind, asked: "503")
    assert await storage.read_record(KEY) == b"record"
    assert await storage.read_blob(digest, LIMIT) == CONTENT
    assert isinstance(await storage.locate(digest), Redirect)
    assert await storage.missing_blobs([descriptor(CONTENT)]) == []
    before = len(place.server.requests)
    assert await storage.read_record(KEY) == b"record"
    assert len(place.server.requests) == before, "a bucket that is down is not asked each time"
    with pytest.raises(StorageUnavailable):
        await storage.locate(Digest.of(b"never"))


@pytest_twisted.ensureDeferred
async def test_one_look_for_all(place: BucketPlace) -> None:
    """However many ask for a blob at a time, the bucket is asked once, and in all for few
    things at a time."""
    storage = await place.open()
    digests = [await storage.write_blob(b"%d" % number) for number in range(40)]
    before = place.server.count("object.get")
    asking = [Deferred.fromCoroutine(storage.locate(d)) for d in digests for _ in range(5)]
    for asked in asking:
        await asked
    assert place.server.count("object.get") == before + 40
    assert place.server.most_in_flight <= 16


# --- the start ------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_start_without_a_bucket(place: BucketPlace) -> None:
    """A bucket that is not there is named."""
    storage = place.make(place.make_store("other"))
    with pytest.raises(StorageUnavailable, match="there is no bucket 'other'"):
        await storage.start()


@pytest_twisted.ensureDeferred
async def test_start_without_rights(place: BucketPlace) -> None:
    """All permissions that are missing are named at once."""
    place.forbid("write", "list")
    with pytest.raises(StorageUnavailable) as raised:
        await place.make().start()
    said = str(raised.value).partition("missing in 'bucket': ")[2]
    assert set(said.partition(";")[0].split(", ")) == set(place.permissions.values())


@pytest_twisted.ensureDeferred
async def test_old_leavings(place: BucketPlace) -> None:
    """What was left unfinished a day ago goes; what is younger, of another form, and all else,
    stays."""
    server = place.server
    old, new = f"staging/{'0' * 32}", f"staging/{'1' * 32}"
    others = {"layers/old", "builds/old", "staging/website", "leases/contract.pdf"}
    server.clock.offset = -25 * 3600
    for name in (old, "leases/0b", *others):
        server.put(name, b"")
    server.clock.offset = 0
    server.put(new, b"")
    await place.open()
    while old in server.objects or "leases/0b" in server.objects:
        await deferLater(reactor, 0.01)
    assert set(server.objects) == {new, *others}
