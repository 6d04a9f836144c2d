"""The images that are stored, as they are listed."""

import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred

from nixery.builds.cache import Cache
from nixery.builds.known_images import KnownImages
from nixery.interfaces import Provenance
from nixery.model.digest import Digest
from nixery.model.image import AMD64, ARM64, SYSTEMS, parse_image
from nixery.model.manifest import CONFIG_TYPE, Descriptor, Layer, Manifest, make_manifest
from nixery.model.service_errors import StorageUnavailable
from nixery.storage.memory import MemoryStorage
from tests.builds.fakes import make_parts

reactor: Any = _reactor

ORIGIN = Provenance("git:https://example.com/x", "1" * 40)
CONFIG = b'{"architecture": "amd64", "os": "linux"}'


@attrs.define
class Instance:
    """One of several daemons with one storage."""

    folder: Path
    storage: MemoryStorage = attrs.Factory(MemoryStorage)
    now: float = 1000.0
    most: int = 100
    cache: Cache = attrs.field(init=False)
    images: KnownImages = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.cache = Cache(self.storage)
        now: Callable[[], float] = lambda: self.now  # noqa: E731
        state = str(self.folder)
        self.images = KnownImages(reactor, self.storage, self.cache, state, now, self.most, 0.1)

    async def make(self, name: str, tag: str = "latest", layer: bytes = b"layer") -> Manifest:
        """Store an image."""
        image = parse_image(name, tag)
        key = Digest.of(f"{name}:{tag}".encode()).hex
        manifest = await stored(self.storage, name, layer)
        await self.cache.remember_manifest(key, manifest, ORIGIN, image=image)
        return manifest

    @property
    def listed(self) -> list[str]:
        return [f"{summary.name}:{summary.tag}" for summary in self.images.all()]


async def stored(storage: MemoryStorage, name: str, layer: bytes = b"layer") -> Manifest:
    config = Descriptor(CONFIG_TYPE, await storage.write_blob(CONFIG), len(CONFIG))
    blob = Descriptor("gzip", await storage.write_blob(layer), len(layer))
    labels = {"org.opencontainers.image.title": name}
    made = make_manifest(config, [Layer(blob, Digest.of(b"tar"))], labels)
    await storage.write_blob(made.content)
    return made


@contextmanager
def unlisted(storage: MemoryStorage, kind: str) -> Iterator[None]:
    """A context in which a storage can't list one kind of records."""
    listed = storage.list_records

    async def list_records(prefix: str) -> AsyncIterator[str]:
        if prefix == kind:
            raise StorageUnavailable("too slow")
        async for key in listed(prefix):
            yield key

    storage.list_records = list_records  # type: ignore[method-assign]
    yield
    storage.list_records = listed  # type: ignore[method-assign]


@pytest.fixture
def instance(tmp_path: Path) -> Instance:
    return Instance(tmp_path / "one")


@pytest_twisted.ensureDeferred
async def test_made_here(instance: Instance) -> None:
    """An image that is made is known from then on, by every spelling of its name and by digest."""
    manifest = await instance.make("shell/git/htop", "v1")
    for found in (
        instance.images.find("shell/htop/git", "v1"),
        await instance.images.by_digest(manifest.digest),
        *instance.images.all(),
    ):
        assert found is not None
        assert found.digest == str(manifest.digest)
        assert (found.name, found.tag) == ("shell/git/htop", "v1")
        assert found.platforms == ("linux/amd64",)
        assert (found.source, found.revision) == (ORIGIN.source, ORIGIN.revision)
        assert found.made > 0
    assert instance.images.find("shell/htop/git", "latest") is None
    assert await instance.images.by_digest(Digest.of(b"other")) is None


@pytest_twisted.ensureDeferred
async def test_made_by_a_build(tmp_path: Path) -> None:
    """A build's image is listed by its name and tag."""
    parts = make_parts(str(tmp_path))
    images = KnownImages(reactor, parts.storage, parts.cache, str(tmp_path))
    pull = await parts.builder.manifest(parse_image("htop", "latest"))
    found = images.find("htop", "latest")
    assert found is not None
    assert found.digest == str(pull.manifest.digest)
    await parts.builder.stop()


@pytest_twisted.ensureDeferred
async def test_indexes(tmp_path: Path) -> None:
    """An index is listed beside its images, by its name, also when it is found in the storage or
    one of its images was pulled after it."""
    parts = make_parts(str(tmp_path), systems=(AMD64, ARM64))
    here = KnownImages(reactor, parts.storage, parts.cache, str(tmp_path))
    index = (await parts.builder.manifest(parse_image("htop", "latest"))).manifest
    cache = Cache(parts.storage)
    elsewhere = KnownImages(reactor, parts.storage, cache, str(tmp_path / "other"))
    await elsewhere.refresh()
    for images in (here, elsewhere):
        for each in (index, *index.children):
            images.pulled(str(each.digest), "")
        found = images.find("htop", "latest")
        assert found is not None
        assert (found.digest, found.platforms) == (str(index.digest), tuple(SYSTEMS))
        child = images.find("arm64/htop", "latest")
        assert child is not None
        assert child.digest == str(index.children[1].digest)
        assert len(images.all()) == 3
    await parts.builder.stop()


@pytest_twisted.ensureDeferred
async def test_images_of_an_index(tmp_path: Path) -> None:
    """A name with a platform finds the image of that, and not the index that has it."""
    parts = make_parts(str(tmp_path), systems=(AMD64, ARM64))
    instance = Instance(tmp_path, parts.storage)
    index = (await parts.builder.manifest(parse_image("git", "latest"))).manifest
    await instance.images.refresh()
    found = [instance.images.find(name, "latest") for name in ("git", "amd64/git", "arm64/git")]
    expected = [str(each.digest) for each in (index, *index.children)]
    assert [each and each.digest for each in found] == expected
    await parts.builder.stop()


@pytest_twisted.ensureDeferred
async def test_most_pulled_indexes(tmp_path: Path) -> None:
    """Whoever pulls an index pulls an image of it, by its digest: that is no other name that is
    wanted. An image that is in no index is."""
    parts = make_parts(str(tmp_path), systems=(AMD64, ARM64))
    instance = Instance(tmp_path, parts.storage)
    indexes = [await parts.builder.manifest(parse_image(name, "latest")) for name in ("git", "vim")]
    alone = await parts.builder.manifest(parse_image("arm64/htop", "latest"))
    await instance.images.refresh()
    for pull in indexes * 2:
        instance.images.pulled(str(pull.manifest.digest), "latest")
        instance.images.pulled(str(pull.manifest.children[1].digest), "")
    instance.images.pulled(str(alone.manifest.digest), "latest")
    expected = [("git", "latest"), ("vim", "latest"), ("arm64/htop", "latest")]
    assert instance.images.most_pulled(9) == expected
    await parts.builder.stop()


@pytest_twisted.ensureDeferred
async def test_made_elsewhere(instance: Instance, tmp_path: Path) -> None:
    """What another instance makes is known by digest at once, and is listed after the next look;
    what is no more is not."""
    other = Instance(tmp_path / "other", instance.storage)
    manifest = await other.make("git")
    assert instance.listed == []
    assert await instance.images.by_digest(manifest.digest) is not None
    more = await other.make("htop")
    await instance.images.refresh()
    assert sorted(instance.listed) == ["git:latest", "htop:latest"]
    await instance.storage.delete_record(f"provenance/{more.digest.hex}")
    await instance.images.refresh()
    assert instance.listed == ["git:latest"]
    assert instance.images.find("htop", "latest") is None


@pytest_twisted.ensureDeferred
async def test_looks_at_once(instance: Instance) -> None:
    """An image that is made during a look stays known, also if another look is wanted meanwhile."""
    await instance.make("git")
    await instance.images.refresh()
    gate, listed = Deferred[None](), instance.storage.list_records

    async def list_late(prefix: str) -> AsyncIterator[str]:
        instance.storage.list_records = listed  # type: ignore[method-assign]
        for key in [key async for key in listed(prefix)]:
            yield key
        await gate

    instance.storage.list_records = list_late  # type: ignore[method-assign]
    first = Deferred.fromCoroutine(instance.images.refresh())
    await instance.make("htop")
    second = Deferred.fromCoroutine(instance.images.refresh())
    gate.callback(None)
    for each in (first, second):
        await each
    assert sorted(instance.listed) == ["git:latest", "htop:latest"]


class CountedStorage(MemoryStorage):
    """Counts how often a summary is read."""

    reads = 0

    async def read_record(self, key: str, fresh: bool = False) -> bytes | None:
        self.reads += key.startswith("provenance/")
        return await super().read_record(key, fresh)


@pytest.mark.parametrize("kept", [40, 9, 0])
@pytest_twisted.ensureDeferred
async def test_over_a_restart(instance: Instance, kept: int) -> None:
    """After a restart all is known as before, and no record of a known image is read; what the
    file lacks, since it is gone or damaged, is."""
    for number in range(40):
        await instance.make(f"p{number}", layer=b"%d" % number)
    await instance.images.refresh()
    await instance.images.stop()
    path = instance.folder / "images.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    assert len(lines) == 40
    path.write_text("".join(lines[:kept]) + '{"digest'[: 40 - kept])
    storage = CountedStorage()
    storage.records, storage.blobs = instance.storage.records, instance.storage.blobs
    again = Instance(instance.folder, storage)
    await again.images.start()
    assert len(again.images.all()) == kept
    assert not again.images.complete
    await again.images.refresh()
    assert again.images.complete
    assert storage.reads == 40 - kept
    assert {s.digest: s for s in again.images.all()} == {s.digest: s for s in instance.images.all()}


@pytest_twisted.ensureDeferred
async def test_without_the_file(instance: Instance, tmp_path: Path) -> None:
    """A state folder that is new, or where the file can't be written, is as good as any."""
    manifest = await instance.make("git")
    (instance.folder / "images.jsonl").mkdir(parents=True)
    await instance.images.refresh()
    await instance.images.stop()
    for folder in (instance.folder, tmp_path / "new"):
        again = Instance(folder, instance.storage)
        await again.images.start()
        await again.images.refresh()
        assert [summary.digest for summary in again.images.all()] == [str(manifest.digest)]


@pytest_twisted.ensureDeferred
async def test_older_versions(instance: Instance) -> None:
    """Images of versions that wrote less, or nothing, of what they were made from are listed, with
    what their documents tell."""
    storage, cache = instance.storage, instance.cache
    one, two = await stored(storage, "git"), await stored(storage, "htop")
    facts = {"source": "s", "revision": "r", "digest": str(one.digest)}
    await cache.write(f"provenance/{one.digest.hex}", facts)
    for manifest in (one, two):
        await cache.remember_key(manifest.digest.hex, manifest.digest)
    await instance.images.refresh()
    known = {summary.name: summary for summary in instance.images.all()}
    assert set(known) == {"git", "htop"}
    assert (known["git"].source, known["git"].platforms) == ("s", ("linux/amd64",))
    assert (known["htop"].source, known["htop"].tags, known["htop"].made) == ("", (), 0)
    await instance.images.refresh()
    assert len(instance.images.all()) == 2


@pytest_twisted.ensureDeferred
async def test_older_versions_after_a_fault(instance: Instance) -> None:
    """Images of older versions are not missed because the storage failed at the first look, after
    a restart neither."""
    old = await stored(instance.storage, "git")
    await instance.cache.remember_key(old.digest.hex, old.digest)
    await instance.make("htop")
    with unlisted(instance.storage, "manifests/"):
        await instance.images.refresh()
    assert not instance.images.complete
    await instance.images.stop()
    again = Instance(instance.folder, instance.storage)
    await again.images.start()
    for each in (instance, again):
        await each.images.refresh()
        assert str(old.digest) in each.images


@pytest_twisted.ensureDeferred
async def test_pulls(instance: Instance, tmp_path: Path) -> None:
    """Pulls are counted, looks are not, and the counts of all instances are added up."""
    other = Instance(tmp_path / "other", instance.storage)
    git, htop = await instance.make("git"), await other.make("htop")
    writes = len(instance.storage.records)
    instance.images.pulled(str(git.digest), "latest", False)
    for _ in range(3):
        instance.now += 1
        instance.images.pulled(str(git.digest), "")
    assert len(instance.storage.records) == writes
    found = instance.images.find("git", "latest")
    assert found is not None
    assert (found.pulls, found.pulled) == (3, instance.now)
    other.now = 2000
    for _ in range(2):
        other.images.pulled(str(git.digest), "v1")
        other.images.pulled(str(htop.digest), "latest")
    for each in (instance, other, instance):
        await each.images.refresh()
    for each in (instance, other):
        assert {s.name: s.pulls for s in each.images.all()} == {"git": 5, "htop": 2}
        assert each.images.most_pulled(1) == [("git", "v1")]
    for tag in ("latest", "v1"):
        tagged = instance.images.find("git", tag)
        assert tagged is not None
        assert tagged.digest == str(git.digest)


@pytest_twisted.ensureDeferred
async def test_pulls_over_a_restart(instance: Instance) -> None:
    """What was counted last is not lost when the daemon stops, nor when the storage fails for a
    while."""
    git = await instance.make("git")
    instance.images.pulled(str(git.digest), "latest")
    instance.storage.fault = StorageUnavailable("it is a test")
    await instance.images.refresh()
    instance.storage.fault = None
    instance.images.pulled(str(git.digest), "latest")
    await instance.images.stop()
    again = Instance(instance.folder, instance.storage)
    await again.images.start()
    await again.images.refresh()
    found = again.images.find("git", "latest")
    assert found is not None
    assert found.pulls == 2


@pytest_twisted.ensureDeferred
async def test_a_storage_that_hangs_at_the_end(instance: Instance) -> None:
    """A storage that does not answer keeps the daemon from stopping for some seconds at most, and
    what is known is written down all the same."""
    git = await instance.make("git")
    await instance.images.refresh()
    instance.images.pulled(str(git.digest), "latest")

    async def hang(key: str, fresh: bool = False) -> bytes | None:
        await Deferred[None]()
        return None

    instance.storage.read_record = hang  # type: ignore[method-assign]
    await instance.images.stop()
    kept = json.loads((instance.folder / "images.jsonl").read_text())
    assert (kept["name"], kept["pulls"]) == ("git", 1)


@pytest_twisted.ensureDeferred
async def test_registries_for_arm64(tmp_path: Path) -> None:
    """Their images are found by names without a platform, too."""
    parts = make_parts(str(tmp_path), systems=[ARM64])
    images = KnownImages(reactor, parts.storage, parts.cache, str(tmp_path))
    made = (await parts.builder.manifest(parse_image("htop", "latest"))).manifest
    for name in ("htop", "arm64/htop"):
        found = images.find(name, "latest")
        assert found is not None
        assert found.digest == str(made.digest)
    assert images.find("amd64/htop", "latest") is None
    await parts.builder.stop()


@pytest_twisted.ensureDeferred
async def test_latest_of_a_name(instance: Instance) -> None:
    """Of several images of one name and tag, the one that was made or pulled last is found; when it
    is forgotten, the one before it is."""
    old = await instance.make("git", layer=b"old")
    new = await instance.make("git", layer=b"new")

    def found() -> str:
        summary = instance.images.find("git", "latest")
        return summary.digest if summary is not None else ""

    assert found() == str(new.digest)
    instance.now = 1e12
    instance.images.pulled(str(old.digest), "latest", False)
    assert found() == str(old.digest)
    instance.images.forget([str(old.digest)])
    assert found() == str(new.digest)
    instance.images.forget([str(new.digest)])
    assert (found(), instance.images.all()) == ("", [])


@pytest_twisted.ensureDeferred
async def test_bounded(tmp_path: Path) -> None:
    """However many images there are, some are known, and that there are more is."""
    instance = Instance(tmp_path, most=3)
    for number in range(5):
        await instance.make(f"p{number}")
    await instance.images.refresh()
    assert len(instance.images.all()) == 3
    assert not instance.images.complete
