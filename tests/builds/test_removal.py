"""Images that are removed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred

from nixery.builds.cache import Cache
from nixery.builds.removal import Removals
from nixery.builds.served import ServedImages
from nixery.model.artifact import EMPTY
from nixery.model.contents import Contents, pack_contents
from nixery.model.digest import Digest
from nixery.model.image import AMD64, ARM64, parse_image
from nixery.model.manifest import INDEX_TYPE, MANIFEST_TYPE, Descriptor, Manifest
from nixery.model.request_errors import ManifestUnknown
from tests.builds.fakes import Parts, make_parts
from tests.builds.test_known_images import ORIGIN, Instance, unlisted

reactor: Any = _reactor

GRACE = 600.0


@attrs.define
class Removing(Instance):
    """An instance that removes images."""

    removals: Removals = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        self.removals = Removals(
            *(reactor, self.storage, self.cache, self.images, GRACE),
            *(self.attached, lambda: self.now),
        )

    async def attached(self, digest: Digest) -> list[str]:
        """What is attached to every image."""
        return [Digest.of(each).hex for each in (b"attached", EMPTY)]

    async def later(self, seconds: float) -> None:
        """Let some time pass, and look as often as the daemon does."""
        self.now += seconds
        await self.images.refresh()
        await self.removals.work_off()


@pytest.fixture
def instance(tmp_path: Path) -> Removing:
    return Removing(tmp_path / "one")


@pytest_twisted.ensureDeferred
async def test_unknown_at_once(instance: Removing) -> None:
    """A removed image is known neither by key, nor by digest, nor by name, to no instance; nothing
    that was remembered of it is left."""
    manifest = await instance.make("git")
    key = Digest.of(b"git:latest").hex
    await instance.removals.remove(manifest.digest)
    other = Instance(instance.folder, instance.storage)
    for each in (instance, other):
        assert await each.cache.manifest(key) is None
        assert await each.images.by_digest(manifest.digest) is None
        assert each.images.find("git", "latest") is None
        with pytest.raises(ManifestUnknown):
            await each.cache.stored(manifest.digest)
    kinds = {key.partition("/")[0] for key in instance.storage.records}
    assert kinds == {"manifests", "removed"}


@pytest_twisted.ensureDeferred
async def test_who_is_loading_it(instance: Removing) -> None:
    """The blobs stay until the grace of a pull is over, and longer while they are being loaded;
    then nothing is left of the image."""
    manifest = await instance.make("git")
    blobs = {blob.digest for blob in manifest.blobs}
    await instance.removals.remove(manifest.digest)
    await instance.later(GRACE - 1)
    assert instance.storage.blobs.keys() == blobs
    instance.storage.used += list(blobs)
    await instance.later(GRACE)
    assert instance.storage.blobs.keys() == blobs
    instance.storage.used.clear()
    await instance.later(GRACE)
    assert instance.storage.blobs == {}
    assert [key for key in instance.storage.records if key.startswith("removed/")] == []


@pytest_twisted.ensureDeferred
async def test_what_is_attached(instance: Removing) -> None:
    """What is attached to an image goes with its blobs, but for what all images have in common; the
    list of it goes at once."""
    manifest = await instance.make("git")
    attached, shared = [await instance.storage.write_blob(each) for each in (b"attached", EMPTY)]
    await instance.storage.write_record(f"referrers/{manifest.digest.hex}", b"")
    await instance.removals.remove(manifest.digest)
    assert attached in instance.storage.blobs
    assert not [key for key in instance.storage.records if key.startswith("referrers/")]
    await instance.later(GRACE)
    assert instance.storage.blobs.keys() == {shared}


@pytest_twisted.ensureDeferred
async def test_what_others_share(instance: Removing, tmp_path: Path) -> None:
    """What other images have stays, also one that another instance has made meanwhile."""
    other = Instance(tmp_path / "other", instance.storage)
    gone = await instance.make("git", layer=b"shared")
    only = await instance.make("htop", layer=b"only here")
    for manifest in (gone, only):
        await instance.removals.remove(manifest.digest)
    kept = await other.make("vim", layer=b"shared")
    await instance.later(GRACE)
    expected = {kept.digest, *(blob.digest for blob in kept.blobs)}
    assert instance.storage.blobs.keys() == expected


@pytest_twisted.ensureDeferred
async def test_made_anew(instance: Removing) -> None:
    """An image that is made anew within the grace, which is the same one, stays, with what is
    attached to it."""
    for _ in range(2):
        manifest = await instance.make("git")
        attached = await instance.storage.write_blob(b"attached")
        await instance.removals.remove(manifest.digest)
    await instance.make("git")
    await instance.later(GRACE)
    assert attached in instance.storage.blobs
    assert await instance.cache.stored(manifest.digest) == manifest
    assert instance.listed == ["git:latest"]
    assert [key for key in instance.storage.records if key.startswith("removed/")] == []


@pytest_twisted.ensureDeferred
async def test_contents_are_recorded_again(instance: Removing) -> None:
    """What is in an image that was removed and is made anew is known again, after a restart too."""
    manifest = await instance.make("git")
    made = Contents("git", "latest", "x86_64-linux", "s", "r", 1.0, (), (), ())
    for _ in range(2):
        await instance.cache.remember_manifest(
            "1" * 64, manifest, ORIGIN, pack_contents(made), parse_image("git", "latest")
        )
        assert await Instance(instance.folder, instance.storage).cache.contents(manifest.digest)
        await instance.removals.remove(manifest.digest)
        assert await instance.cache.contents(manifest.digest) is None


@pytest_twisted.ensureDeferred
async def test_twice(instance: Removing) -> None:
    """Of two removals at once, both succeed; a later one finds nothing, as one of what was never
    there."""
    manifest = await instance.make("git")
    gate, drop = Deferred[None](), instance.storage.drop

    async def drop_late(blobs: Sequence[Digest], used: bool = False) -> list[Digest]:
        await gate
        return await drop(blobs, used)

    instance.storage.drop = drop_late  # type: ignore[method-assign]
    both = [Deferred.fromCoroutine(instance.removals.remove(manifest.digest)) for _ in range(2)]
    gate.callback(None)
    for each in both:
        await each
    for digest in (manifest.digest, Digest.of(b"never")):
        with pytest.raises(ManifestUnknown):
            await instance.removals.remove(digest)


@pytest_twisted.ensureDeferred
async def test_what_is_left_of_one(instance: Removing) -> None:
    """An image whose manifest was lost can be removed like any other."""
    manifest = await instance.make("git")
    del instance.storage.blobs[manifest.digest]
    again = Removing(instance.folder, instance.storage)
    await again.images.refresh()
    await again.removals.remove(manifest.digest)
    assert again.images.all() == []


@pytest_twisted.ensureDeferred
async def test_index(instance: Removing) -> None:
    """With an index go its images, but for those of another index."""
    children = [await instance.make(name, layer=name.encode()) for name in ("git", "arm64/git")]
    digests = []
    for parts in (children, children[:1]):
        blobs = [Descriptor(MANIFEST_TYPE, m.digest, len(m.content)) for m in parts]
        listed = ",".join(
            f'{{"mediaType":"{b.media_type}","digest":"{b.digest}","size":{b.size}}}' for b in blobs
        )
        content = f'{{"mediaType":"{INDEX_TYPE}","manifests":[{listed}]}}'.encode()
        index = Manifest(content, INDEX_TYPE, Digest.of(content), tuple(blobs))
        image = parse_image("git", f"v{len(parts)}")
        await instance.cache.remember_manifest(index.digest.hex, index, ORIGIN, "", image)
        digests.append(index.digest)
    await instance.removals.remove(digests[0])
    assert {summary.digest for summary in instance.images.all()} == {
        str(digests[1]),
        str(children[0].digest),
    }


@attrs.define
class Platforms:
    """A builder for two platforms, and an instance that removes its images."""

    folder: Path
    parts: Parts = attrs.field(init=False)
    instance: Removing = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.parts = make_parts(str(self.folder / "builds"), systems=(AMD64, ARM64))
        self.instance = Removing(self.folder / "one", self.parts.storage)

    async def pull(self, name: str) -> Manifest:
        """Have an image made, of which the instance knows then."""
        manifest = (await self.parts.builder.manifest(parse_image(name, "latest"))).manifest
        await self.instance.images.refresh()
        self.parts.storage.used.clear()
        return manifest


@pytest.fixture
def platforms(tmp_path: Path) -> Platforms:
    return Platforms(tmp_path)


@pytest_twisted.ensureDeferred
async def test_image_of_a_removed_index(platforms: Platforms) -> None:
    """An image of an index that was removed stays if it is made anew by its own name."""
    instance = platforms.instance
    index = await platforms.pull("git")
    await instance.removals.remove(index.digest)
    image = await platforms.pull("arm64/git")
    assert image in index.children
    await instance.later(GRACE)
    assert instance.listed == ["arm64/git:latest"]
    assert await Instance(platforms.folder, instance.storage).cache.stored(image.digest) == image


@pytest.mark.parametrize("name", ["git", "arm64/git"])
@pytest_twisted.ensureDeferred
async def test_who_is_loading_it_by_right(platforms: Platforms, name: str) -> None:
    """Where not everybody may have all blobs, those of a removed image, or index, are still for
    who may pull it, as long as they stay; for nobody else."""
    instance, image = platforms.instance, parse_image(name, "latest")
    manifest = await platforms.pull(name)
    served = [ServedImages(reactor, instance.storage, Cache(instance.storage)) for _ in range(2)]
    await served[0].note(image, manifest)
    blobs = {blob.digest for each in manifest.children or [manifest] for blob in each.blobs}
    await instance.removals.remove(manifest.digest)
    for each in served:
        for blob in blobs:
            assert await each.holds(name, blob, lambda tag: tag == "latest")
            assert not await each.holds(name, blob, lambda tag: False)
            assert not await each.holds("htop", blob, lambda tag: True)
    await instance.later(GRACE)
    assert instance.storage.blobs == {}
    assert not await served[1].holds(name, next(iter(blobs)), lambda tag: True)


@pytest_twisted.ensureDeferred
async def test_index_that_lost_an_image(platforms: Platforms) -> None:
    """With an index goes what is left of its images, also if one of them was lost."""
    instance = platforms.instance
    index = await platforms.pull("git")
    for lost in index.children[0].digest, index.children[0].blobs[0].digest:
        del instance.storage.blobs[lost]
    await instance.removals.remove(index.digest)
    assert instance.images.all() == []


@pytest_twisted.ensureDeferred
async def test_image_and_index_at_once(platforms: Platforms) -> None:
    """An index is removed though one of its images is removed meanwhile."""
    instance = platforms.instance
    index = await platforms.pull("git")
    drop = instance.storage.drop

    async def drop_late(blobs: Sequence[Digest], used: bool = False) -> list[Digest]:
        if blobs == [index.digest]:
            await instance.removals.remove(index.children[0].digest)
        return await drop(blobs, used)

    instance.storage.drop = drop_late  # type: ignore[method-assign]
    await instance.removals.remove(index.digest)
    assert instance.images.all() == []


@pytest_twisted.ensureDeferred
async def test_two_instances(instance: Removing, tmp_path: Path) -> None:
    """What the first of two instances that remove an image has noted of it is not lost."""
    manifest = await instance.make("git")
    other = Removing(tmp_path / "other", instance.storage)
    await other.images.refresh()
    await instance.removals.remove(manifest.digest)
    await other.removals.remove(manifest.digest)
    await instance.later(GRACE)
    assert instance.storage.blobs == {}


@pytest_twisted.ensureDeferred
async def test_a_look_that_fails(instance: Removing, tmp_path: Path) -> None:
    """While the storage can't be listed, no blob is dropped: another instance may have made an
    image of it."""
    gone = await instance.make("git", layer=b"shared")
    await instance.images.refresh()
    await instance.removals.remove(gone.digest)
    kept = await Instance(tmp_path / "other", instance.storage).make("vim", layer=b"shared")
    with unlisted(instance.storage, "provenance/"):
        await instance.later(GRACE)
    assert {blob.digest for blob in kept.blobs} <= instance.storage.blobs.keys()


@pytest_twisted.ensureDeferred
async def test_not_before_all_is_known(instance: Removing) -> None:
    """While not all images are known, no blob of a removed one is dropped: another may have it."""
    manifest = await instance.make("git")
    await instance.removals.remove(manifest.digest)
    instance.now += GRACE
    await instance.removals.work_off()
    assert set(instance.storage.blobs) == {blob.digest for blob in manifest.blobs}


@pytest_twisted.ensureDeferred
async def test_pulled_again(tmp_path: Path) -> None:
    """An image that was removed is made anew for the next who asks for it."""
    parts = make_parts(str(tmp_path))
    instance = Removing(tmp_path, parts.storage)
    image = parse_image("htop", "latest")
    first = await parts.builder.manifest(image)
    assert first.again is not None
    assert first.again()
    await instance.removals.remove(first.manifest.digest)
    assert not first.again()
    again = await parts.builder.manifest(image)
    assert again.manifest == first.manifest
    assert len(parts.nix.asked) == 2
    await parts.builder.stop()
