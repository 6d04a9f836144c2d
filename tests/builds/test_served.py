# mypy: disable-error-code="import-untyped,untyped-decorator"
"""Which images were served by which names: across restarts, instances and faults."""

import json

import attrs
import pytest
import pytest_twisted
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import Clock

from nixery.builds.cache import Cache
from nixery.builds.patient_lease import PATIENCE
from nixery.builds.served import (
    AGE,
    MOST_MANIFESTS,
    MOST_TAGS,
    ServedImages,
    ServedManifest,
    merged,
)
from nixery.interfaces import ILease
from nixery.model.digest import Digest
from nixery.model.image import parse_image
from nixery.model.manifest import (
    CONFIG_TYPE,
    Descriptor,
    Layer,
    Manifest,
    make_index,
    make_manifest,
)
from nixery.model.source import canonical_sha256
from nixery.storage.memory import MemoryStorage


def manifest(*layers: bytes) -> Manifest:
    config = Descriptor(CONFIG_TYPE, Digest.of(b"config of" + b"".join(layers)), 6)
    made = [Layer(Descriptor("x", Digest.of(each), 1), Digest.of(each)) for each in layers]
    return make_manifest(config, made)


HELLO, SECRET = manifest(b"base", b"hello"), manifest(b"base", b"secret")
BASE = Digest.of(b"base")


class Trusting(MemoryStorage):
    """One instance's view of a storage, which trusts what it has read or written of records, as
    that of a bucket does for a while."""

    def __init__(self, shared: MemoryStorage) -> None:
        super().__init__()
        self._shared = shared
        self._trusted: dict[str, bytes] = {}

    async def read_record(self, key: str, fresh: bool = False) -> bytes | None:
        if key not in self._trusted or fresh:
            found = await self._shared.read_record(key)
            if found is None:
                return None
            self._trusted[key] = found
        return self._trusted[key]

    async def write_record(self, key: str, content: bytes, lasting: bool = True) -> None:
        await self._shared.write_record(key, content, lasting)
        self._trusted[key] = content

    async def read_blob(self, digest: Digest, limit: int) -> bytes:
        return await self._shared.read_blob(digest, limit)

    async def lease(self, key: str) -> ILease:
        return await self._shared.lease(key)


@attrs.define
class World:
    """A storage that instances share."""

    storage: MemoryStorage = attrs.Factory(MemoryStorage)
    clock: Clock = attrs.Factory(Clock)

    def instance(self) -> ServedImages:
        own = Trusting(self.storage)
        return ServedImages(self.clock, own, Cache(own))

    async def serve(
        self, instance: ServedImages, name: str, made: Manifest, tag: str = "latest"
    ) -> None:
        for each in (made, *made.children):
            await self.storage.write_blob(each.content)
        await instance.note(parse_image(name, tag), made)


def anything(tag: str) -> bool:
    return True


@pytest.fixture
def world() -> World:
    """A storage that instances share."""
    return World()


@pytest_twisted.ensureDeferred
async def test_what_an_image_holds(world: World) -> None:
    """A name has the manifests that were served for it and their blobs, and no other's; a layer
    of several images is each one's."""
    images = world.instance()
    await world.serve(images, "hello", HELLO)
    await world.serve(images, "secret", SECRET)
    for made, name, other in ((HELLO, "hello", "secret"), (SECRET, "secret", "hello")):
        for digest in (made.digest, *(blob.digest for blob in made.blobs)):
            assert await images.holds(name, digest, anything)
            assert await images.holds(other, digest, anything) == (digest == BASE)
            assert not await images.holds("third", digest, anything)


@pytest_twisted.ensureDeferred
async def test_what_an_index_holds(world: World) -> None:
    """A name that was served an index has all that this leads to, in other instances too."""
    index = make_index({"linux/amd64": HELLO, "linux/arm64": SECRET}, {})
    await world.serve(world.instance(), "both", index)
    for images in (world.instance(), world.instance()):
        for part in index.parts:
            assert await images.holds("both", part.digest, anything)
            assert not await images.holds("other", part.digest, anything)
        assert not await images.holds("both", Digest.of(b"else"), anything)


@pytest_twisted.ensureDeferred
async def test_tags(world: World) -> None:
    """Only tags that the asker may pull count; a manifest that several lead to is each one's."""
    images = world.instance()
    await world.serve(images, "hello", HELLO, "old")
    await world.serve(images, "hello", HELLO, "new")
    await world.serve(images, "hello", SECRET, "private")
    for tag in ("old", "new"):
        assert await images.holds("hello", HELLO.digest, tag.__eq__)
        assert await images.holds("hello", BASE, tag.__eq__)
        assert not await images.holds("hello", SECRET.digest, tag.__eq__)
        assert not await images.holds("hello", SECRET.blobs[2].digest, tag.__eq__)
    assert not await images.holds("hello", BASE, "none".__eq__)


@pytest_twisted.ensureDeferred
async def test_restarts_and_instances(world: World) -> None:
    """What one instance has served is known to all, at once, and after a restart; none forgets
    what another one has noted."""
    first, second = world.instance(), world.instance()
    await world.serve(first, "hello", HELLO)
    assert await second.holds("hello", BASE, anything)
    await world.serve(second, "hello", SECRET)
    assert await first.holds("hello", SECRET.blobs[2].digest, anything)
    await world.serve(first, "hello", manifest(b"third"))
    later = world.instance()
    for made in (HELLO, SECRET, manifest(b"third")):
        assert await later.holds("hello", made.digest, anything)


@pytest_twisted.ensureDeferred
async def test_beside_an_earlier_version(world: World) -> None:
    """What an instance of an earlier version serves is known, whatever is recorded here already."""
    await world.serve(world.instance(), "hello", SECRET)
    [record] = world.storage.records.values()
    world.storage.records.clear()
    await world.serve(world.instance(), "hello", HELLO)
    world.storage.records[f"manifests/{canonical_sha256({'served': 'hello'})}"] = record
    for made in (HELLO, SECRET):
        assert await world.instance().holds("hello", made.digest, anything)


@pytest_twisted.ensureDeferred
async def test_noted_once(world: World) -> None:
    """What is known is neither read nor written again, for an hour; then what was lost is back."""
    images = world.instance()
    await world.serve(images, "hello", HELLO)
    world.storage.records.clear()
    await world.serve(images, "hello", HELLO)
    assert world.storage.records == {}
    world.clock.advance(AGE)
    await world.serve(images, "hello", HELLO)
    assert len(world.storage.records) == 1


@pytest_twisted.ensureDeferred
async def test_at_once(world: World) -> None:
    """Of many images that are served at once by one name, each is noted."""
    images = world.instance()
    made = [manifest(b"%d" % number) for number in range(20)]
    await gatherResults(
        Deferred.fromCoroutine(world.serve(images, "hello", each)) for each in made * 2
    )
    later = world.instance()
    for each in made:
        assert await later.holds("hello", each.digest, anything)


@pytest_twisted.ensureDeferred
async def test_storage_that_takes_nothing(world: World) -> None:
    """Where nothing can be written, what was served here is known here, whoever asks for what."""
    images = world.instance()
    await world.storage.write_blob(HELLO.content)
    world.storage.full = True
    for tag in ("one", "two"):
        await images.note(parse_image("hello", tag), HELLO)
    assert not await images.holds("hello", SECRET.digest, anything)
    for tag in ("one", "two"):
        assert await images.holds("hello", BASE, tag.__eq__)
    world.storage.full = False
    world.clock.advance(AGE)
    await images.note(parse_image("hello", "one"), HELLO)
    assert await world.instance().holds("hello", BASE, "two".__eq__)


@pytest_twisted.ensureDeferred
async def test_a_lease_that_is_not_given_back(world: World) -> None:
    """An instance that was stopped while it wrote keeps nobody waiting for long."""
    images = world.instance()
    await world.serve(images, "hello", HELLO)
    world.clock.advance(AGE)
    for lock in world.storage._leases.values():
        await lock.acquire()
    noted = Deferred.fromCoroutine(world.serve(images, "hello", SECRET))
    assert not noted.called
    world.clock.advance(PATIENCE)
    await noted
    assert await world.instance().holds("hello", SECRET.digest, anything)


@pytest_twisted.ensureDeferred
async def test_manifests_that_are_gone(world: World) -> None:
    """A blob of an image whose manifest is stored no more is that image's no more."""
    images = world.instance()
    await world.serve(images, "hello", HELLO)
    world.storage.blobs.clear()
    later = world.instance()
    assert not await later.holds("hello", BASE, anything)


@pytest.mark.parametrize(
    "record", [b"", b"{", b"[]", b'{"record":{},"sha256":""}', b'{"served":[{}]}', b"\xff"]
)
@pytest_twisted.ensureDeferred
async def test_damaged_records(world: World, record: bytes) -> None:
    """A record that is damaged counts as none, and is written anew."""
    await world.serve(world.instance(), "hello", HELLO)
    [key] = world.storage.records
    good = world.storage.records[key]
    world.storage.records[key] = record
    later = world.instance()
    assert not await later.holds("hello", BASE, anything)
    await world.serve(later, "hello", HELLO)
    assert world.storage.records[key] == good


@pytest_twisted.ensureDeferred
async def test_records_name_their_blobs(world: World) -> None:
    """A record says of which manifests it is, for whoever clears records away."""
    images = world.instance()
    await world.serve(images, "hello", HELLO)
    await world.serve(images, "hello", SECRET)
    [record] = world.storage.records.values()
    digests = json.loads(record)["record"]["digests"]
    assert digests == [str(HELLO.digest), str(SECRET.digest)]


@pytest_twisted.ensureDeferred
async def test_what_is_attached(world: World) -> None:
    """A name has what is attached to its images from when that was listed by it, also when they are
    pulled again, by other tags and from other instances; other names have not."""
    document = Digest.of(b"a document")

    async def attached(subject: Digest) -> list[str]:
        return [document.hex] if subject == HELLO.digest else []

    def instance() -> ServedImages:
        own = Trusting(world.storage)
        return ServedImages(world.clock, own, Cache(own), attached)

    images = instance()
    await world.serve(images, "hello", HELLO)
    await world.serve(images, "secret", SECRET)
    assert not await images.holds("hello", document, anything)
    for name in ("hello", "secret"):
        await images.note_attached(name, HELLO.digest)
    for each in (images, instance()):
        assert await each.holds("hello", document, anything)
        await world.serve(each, "hello", HELLO, "1.0")
        assert await each.holds("hello", document, lambda tag: tag == "1.0")
        assert not await each.holds("hello", document, lambda tag: tag == "2.0")
        assert not await each.holds("secret", document, anything)


@pytest_twisted.ensureDeferred
async def test_the_list_of_what_is_attached_is_bounded(world: World) -> None:
    """What was attached before, and is not now, is no longer in a name's record."""
    lists = [[Digest.of(b"%d" % number).hex] for number in range(9)]

    async def attached(subject: Digest) -> list[str]:
        return lists[0]

    images = ServedImages(world.clock, world.storage, Cache(world.storage), attached)
    await world.serve(images, "hello", HELLO)
    sizes = set()
    while lists:
        await images.note_attached("hello", HELLO.digest)
        assert await images.holds("hello", Digest(lists[0][0]), anything)
        [record] = world.storage.records.values()
        sizes.add(len(record))
        lists.pop(0)
    assert len(sizes) == 1


SERVED = st.builds(
    lambda number, tags: attrs.evolve(
        ServedManifest.of(manifest(b"%d" % number), ""), tags=tuple(tags)
    ),
    st.integers(0, 3),
    st.lists(st.sampled_from("abc"), min_size=1, unique=True),
)
LISTS = st.lists(SERVED, max_size=4, unique_by=lambda each: each.digest).map(tuple)


@given(LISTS, LISTS)
def test_merged(images: tuple[ServedManifest, ...], more: tuple[ServedManifest, ...]) -> None:
    """Merged is what either has, each manifest once; what adds nothing moves nothing."""

    def pairs(of: tuple[ServedManifest, ...]) -> set[tuple[str, str]]:
        return {(each.digest, tag) for each in of for tag in each.tags}

    whole = merged(images, more)
    assert pairs(whole) == pairs(images) | pairs(more)
    assert len({each.digest for each in whole}) == len(whole)
    assert merged(whole, more) == whole
    assert merged(whole, images) == whole


def test_bounds() -> None:
    """Of very many manifests, and of very many tags, those that were served last are known."""
    one = ServedManifest.of(HELLO, "0")
    for number in range(MOST_TAGS + 5):
        [one] = merged((one,), (ServedManifest.of(HELLO, str(number)),))
    assert one.tags == tuple(str(number) for number in range(5, MOST_TAGS + 5))
    many: tuple[ServedManifest, ...] = ()
    for number in range(MOST_MANIFESTS + 5):
        many = merged(many, (attrs.evolve(one, digest=str(number)),))
    assert [each.digest for each in many[:1]] == ["5"]
    assert len(many) == MOST_MANIFESTS
