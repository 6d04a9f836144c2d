# mypy: disable-error-code="import-untyped,untyped-decorator"
"""What S3 alone has, and the services that speak like it lack."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs, formatEvent

from nixery.interfaces import Redirect
from nixery.model.digest import Digest
from nixery.model.service_errors import StorageUnavailable
from nixery.storage.objects.object_store import Refused
from nixery.storage.objects.s3_requests import S3Bucket
from tests.gcs.answers import Answer
from tests.gcs.faults import Faults
from tests.s3.server import PERMISSIONS
from tests.s3.signatures import Key
from tests.storage.backend import CONTENT, KEY, LIMIT, descriptor, exercise, run, store, write
from tests.storage.bucket_place import OPTIONS, STEP, Collected
from tests.storage.s3_place import S3Place, s3_place
from tests.waiting import until

LARGE = bytes(range(256)) * (10 * STEP // 256) + b"the rest"
LACKING = [
    frozenset(some)
    for some in (
        *((), ("creates",), ("replaces",), ("quotes",), ("deletes",), ("checksums",)),
        ("quotes", "deletes", "checksums"),  # Ceph 16
        ("creates", "replaces", "deletes", "checksums"),
    )
]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Place]:
    context = s3_place(tmp_path, monkeypatch.setenv)
    yield run(context.__aenter__())
    run(context.__aexit__(None, None, None))


# --- services that lack something -----------------------------------------------------------


@pytest.mark.parametrize("lacking", LACKING, ids=lambda some: "-".join(sorted(some)) or "nothing")
@pytest_twisted.ensureDeferred
async def test_services_that_lack_something(place: S3Place, lacking: frozenset[str]) -> None:
    """A service that has not all of S3 serves as well, and what it lacks is said at the start."""
    place.server.api.lacks = set(lacking)
    with capturedLogs() as captured:
        storage = await place.open()
    said = [formatEvent(event) or "" for event in captured]
    words = {
        "If-None-Match of writes": {"creates"},
        "If-Match of writes": {"replaces", "quotes"},
        "If-Match of deletions": {"deletes"},
        "CRC32C checksums": {"checksums"},
    }
    for text, causes in words.items():
        assert any(text in line for line in said) == bool(causes & lacking)
    assert await place.load(await exercise(storage, LARGE)) == LARGE
    assert {name.partition("/")[0] for name in place.server.objects} == {"layers"}
    lease = await storage.lease("0b")
    waiting = Deferred.fromCoroutine((await place.open()).lease("0b"))
    await storage.write_record(KEY, b"meanwhile")
    assert not waiting.called
    await lease.release()
    await (await waiting).release()


@pytest_twisted.ensureDeferred
async def test_damage_without_checksums(place: S3Place) -> None:
    """Without checksums, an object of another size, or without what Nixery noted, is damaged."""
    place.server.api.lacks = {"checksums"}
    storage = await place.open()
    digest = await storage.write_blob(CONTENT)
    await place.damage(digest, CONTENT[:-1])
    assert await storage.missing_blobs([descriptor(CONTENT)]) == [digest]
    await storage.write_blob(CONTENT)
    place.server.put(f"layers/{digest.hex}", CONTENT[:-1] + b"!")
    assert await storage.missing_blobs([descriptor(CONTENT)]) == [digest]


@pytest_twisted.ensureDeferred
async def test_the_trial_leaves_nothing(place: S3Place) -> None:
    """What is tried at the start leaves nothing in the bucket, not even an upload."""
    await place.make().start()
    assert place.server.objects == {}
    assert place.server.unfinished == 0
    assert place.server.count("upload.start") == 1


@pytest_twisted.ensureDeferred
async def test_a_full_bucket_serves(place: S3Place) -> None:
    """A bucket without room is no reason not to start: what it holds is served, and it is said
    that the service could not be tried."""
    digest = await (await place.open()).write_blob(CONTENT)
    with place.full(), capturedLogs() as captured:
        storage = await place.open()
        assert await storage.read_blob(digest, LIMIT) == CONTENT
    said = [formatEvent(event) or "" for event in captured]
    assert any("restart the daemon when there is room" in line for line in said)


def test_the_least_policy() -> None:
    """The policy in the documentation has what the tests' server asks for, and nothing else."""
    text = (Path(__file__).parents[2] / "docs" / "settings.md").read_text("utf-8")
    policy = json.loads(text.partition("```json\n")[2].partition("```")[0])
    actions = [action for each in policy["Statement"] for action in each["Action"]]
    assert sorted(actions) == sorted(PERMISSIONS)


@pytest.mark.parametrize("permission", ["GetObject", "DeleteObject", "AbortMultipartUpload"])
@pytest_twisted.ensureDeferred
async def test_each_permission(place: S3Place, permission: str) -> None:
    """A permission that is missing is named, and no other one."""
    place.server.permissions.remove(f"s3:{permission}")
    with pytest.raises(StorageUnavailable, match=rf"missing in 'bucket': s3:{permission}$"):
        await place.make().start()


# --- time, credentials, regions -------------------------------------------------------------


@pytest.mark.parametrize("hours", [-3, 3])
@pytest_twisted.ensureDeferred
async def test_a_clock_that_is_wrong(place: S3Place, hours: int) -> None:
    """Where this machine's clock is wrong, the service's counts, for requests and URLs; that is
    said once."""
    place.server.clock.offset = hours * 3600
    with capturedLogs() as captured:
        storage = await place.open()
        location = await storage.locate(await storage.write_blob(CONTENT))
    assert await place.load(location) == CONTENT
    (said,) = [formatEvent(event) or "" for event in captured if "minutes" in event]
    assert f"{abs(hours) * 60} min {'behind' if hours > 0 else 'ahead of'} that of S3" in said


@pytest_twisted.ensureDeferred
async def test_credentials_that_are_replaced(
    place: S3Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Credentials that were replaced, or whose session is over, are looked for anew, whatever the
    request is."""
    storage = place.make(redirect=False)
    await storage.start()
    server, number = place.server, 0

    def replace() -> None:
        nonlocal number
        number += 1
        new = Key(f"AKID{number}", "another", f"token{number}")
        old = Key(server.key.id, server.key.secret, server.key.token, server.clock.now())
        server.keys = {old.id: old, new.id: new}
        server.key = new
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", new.id)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", new.secret)
        monkeypatch.setenv("AWS_SESSION_TOKEN", new.token or "")

    replace()
    digest = await storage.write_blob(CONTENT)
    replace()
    location = await storage.locate(digest)
    replace()
    assert await place.load(location) == CONTENT
    replace()
    assert await store(storage, LARGE) == Digest.of(LARGE)


@pytest_twisted.ensureDeferred
async def test_credentials_that_are_wrong(place: S3Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials that are not accepted are no reason to try again; the secret is not told."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of-somebody-else")
    with pytest.raises(StorageUnavailable, match="credentials are not accepted") as raised:
        await place.make().start()
    assert "SignatureDoesNotMatch" in str(raised.value)
    assert "of-somebody-else" not in str(raised.value)
    assert len(place.server.requests) == 2


@pytest_twisted.ensureDeferred
async def test_another_region(place: S3Place) -> None:
    """A bucket in another region is named together with it."""
    place.server.region = "eu-central-1"
    with pytest.raises(StorageUnavailable, match="is in the region 'eu-central-1': set AWS_REGION"):
        await place.make().start()


@pytest_twisted.ensureDeferred
async def test_a_bucket_that_is_deleted(place: S3Place) -> None:
    """A bucket that is deleted while the daemon runs is no bucket without the records in it."""
    storage = await place.open()
    place.server.bucket.name = "another"
    for attempt in (storage.read_record(KEY), storage.write_record(KEY, b"")):
        with pytest.raises(StorageUnavailable, match="NoSuchBucket"):
            await attempt


@pytest_twisted.ensureDeferred
async def test_leases_that_are_kept(place: S3Place) -> None:
    """A lease that was kept is of another version than before: who saw it expire does not take it
    over."""
    storage = place.make(leases=attrs.evolve(OPTIONS.leases, lifetime=0.15))
    lease, api = await storage.lease("0a"), place.server.api
    first = api.etag(place.server.objects["leases/0a"])
    await until(lambda: api.etag(place.server.objects["leases/0a"]) != first)
    await lease.release()
    assert place.server.objects == {}


# --- uploads and copies ---------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_errors_in_good_answers(place: S3Place) -> None:
    """An error in an answer whose status was sent before is an error."""
    storage = await place.open()
    place.server.faults = Faults.each_request_once(["error-200"])
    assert await store(storage, LARGE) == Digest.of(LARGE)
    kinds = [kind for kind, _ in place.server.faults.happened]
    assert sorted(kinds) == ["object.rewrite", "upload.finish"]
    assert place.server.content(f"layers/{Digest.of(LARGE).hex}") == LARGE


@pytest_twisted.ensureDeferred
async def test_completed_without_an_answer(place: S3Place) -> None:
    """An upload whose completion was not answered is found to be complete."""
    storage = await place.open()
    place.server.faults = Faults.script(upload_finish=["drop-after"])
    assert await store(storage, LARGE) == Digest.of(LARGE)
    assert place.server.count("upload.finish") == 2
    assert place.server.count("upload.start") == 1


@pytest.mark.parametrize("fault", [None, "503", "drop-after"])
@pytest_twisted.ensureDeferred
async def test_copies_in_parts(place: S3Place, fault: Any) -> None:
    """What is too large for one request is copied in parts, and nothing is left of a copy that
    failed."""
    storage = place.make(place.store_of(S3Bucket("bucket"), largest_copy=4 * STEP))
    await storage.start()
    place.server.faults = Faults.script(upload_copy=[None, fault], upload_finish=[None, fault])
    assert await store(storage, LARGE) == Digest.of(LARGE)
    found = place.server.objects[f"layers/{Digest.of(LARGE).hex}"]
    assert found.content.data == LARGE
    assert found.fields["metadata"]["nixery-sha256"] == Digest.of(LARGE).hex
    assert place.server.unfinished == 0
    other = await place.open()
    assert await other.missing_blobs([descriptor(LARGE)]) == []


@pytest_twisted.ensureDeferred
async def test_old_uploads(place: S3Place) -> None:
    """Parts of uploads that nobody finished are dropped after a day, on however many pages they are
    listed; what is younger, and what others upload, stays."""
    server = place.server
    blob, staged = f"layers/{64 * 'a'}", f"staging/{32 * 'b'}"
    others = ["staging/website", "layers/contract.pdf", "others/upload"]
    agent = place.store_of(S3Bucket("bucket"))
    server.clock.offset = -25 * 3600
    for name in (blob, staged, *others):
        await agent.begin_upload(name, LIMIT)
    server.clock.offset = 0
    await agent.begin_upload(f"staging/{32 * 'c'}", LIMIT)
    server.api.page = 2
    await place.open()
    await until(lambda: not {blob, staged} & {each.name for each in server.uploads.open.values()})
    left = {each.name for each in server.uploads.open.values()}
    assert left == {f"staging/{32 * 'c'}", *others}


@pytest.mark.parametrize(
    "page",
    [
        b"<L><IsTruncated>true</IsTruncated></L>",
        b"<L><IsTruncated>true</IsTruncated><NextKeyMarker>a</NextKeyMarker>"
        b"<NextContinuationToken>a</NextContinuationToken></L>",
    ],
    ids=["none", "same"],
)
@pytest_twisted.ensureDeferred
async def test_lists_that_do_not_go_on(place: S3Place, page: bytes) -> None:
    """A list whose next page is the same one again has an end all the same."""
    server = place.server
    server.answer = lambda *_: Answer(200, body=page)  # type: ignore[method-assign]
    store = place.store_of(S3Bucket("bucket"))
    with pytest.raises(Refused, match="does not go on"):
        await store.drop_uploads(1, LIMIT)
    if b"Token" in page:
        with pytest.raises(Refused, match="does not go on"):
            await store.list_page("staging/", "a", LIMIT)


@pytest_twisted.ensureDeferred
async def test_damaged_on_its_way(place: S3Place) -> None:
    """The service compares the SHA-256 of every part: one that was altered on its way is sent
    again."""
    storage, server = await place.open(), place.server
    answer = server.answer
    altered: list[str] = []

    def alter(route: Any, asked: Any, fault: Any) -> Any:
        if route.kind == "upload.chunk" and not altered:
            altered.append(route.name)
            asked = attrs.evolve(asked, body=b"!" + asked.body[1:])
        return answer(route, asked, fault)

    server.answer = alter  # type: ignore[method-assign]
    assert await store(storage, LARGE) == Digest.of(LARGE)
    assert altered
    assert server.content(f"layers/{Digest.of(LARGE).hex}") == LARGE


# --- parts of buckets, and other addresses --------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_prefixes(place: S3Place) -> None:
    """Two registries with prefixes of their own share a bucket without seeing each other."""
    first, second = (
        place.make(place.store_of(S3Bucket("bucket", prefix))) for prefix in ("one/", "two/x/")
    )
    for storage in (first, second):
        await storage.start()
    digest = await first.write_blob(CONTENT)
    assert await second.missing_blobs([descriptor(CONTENT)]) == [digest]
    assert await place.load(await exercise(second, LARGE)) == LARGE
    assert await first.missing_blobs([descriptor(LARGE)]) == [Digest.of(LARGE)]
    assert {name.split("/layers/")[0] for name in place.server.objects} == {"one", "two/x"}


@pytest_twisted.ensureDeferred
async def test_public_endpoint(place: S3Place) -> None:
    """Clients are sent to the address that is theirs, by URLs that are signed for it."""
    public = place.server.url.replace("127.0.0.1", "localhost")
    bucket = S3Bucket("bucket", "", public)
    storage = place.make(place.store_of(bucket))
    await storage.start()
    location = await storage.locate(await storage.write_blob(CONTENT))
    assert isinstance(location, Redirect)
    assert location.url.startswith(f"{public}/bucket/layers/")
    assert await place.load(location) == CONTENT


@pytest_twisted.ensureDeferred
async def test_an_address_for_clients_alone(place: S3Place) -> None:
    """That the daemon does not reach the clients' address is said, and no fault."""
    bucket = S3Bucket("bucket", "", "http://127.0.0.1:1")
    with capturedLogs() as captured:
        await place.make(place.store_of(bucket)).start()
    assert any("could not be tried from here" in (formatEvent(each) or "") for each in captured)


@pytest_twisted.ensureDeferred
async def test_streams(place: S3Place) -> None:
    """A blob that is altered while it is copied to a client is not gone on with."""
    storage = place.make(redirect=False)
    await storage.start()
    location: Any = await storage.locate(await storage.write_blob(LARGE))
    client = Collected()
    await location.copy(1000, 5000, client)
    assert client.content == LARGE[1000:6000]
    await place.damage(Digest.of(LARGE), LARGE[:-1] + b"!")
    with pytest.raises(StorageUnavailable, match="status 412"):
        await location.copy(0, 5, Collected())


@pytest_twisted.ensureDeferred
async def test_cut_uploads(place: S3Place) -> None:
    """An upload that is discarded leaves no parts behind."""
    storage = await place.open()
    upload = await storage.receive()
    await write(upload, LARGE)
    await until(lambda: place.server.count("upload.chunk") == 2)
    await upload.discard()
    await until(lambda: place.server.unfinished == 0)
    assert place.server.objects == {}
