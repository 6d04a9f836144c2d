# mypy: disable-error-code="import-untyped,untyped-decorator"
"""Artifacts of images: made once, kept, and made anew where they are lost."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred, gatherResults

from nixery.attest.attaching import ATTESTATIONS, INDEX, SIGNATURE
from nixery.attest.document import Document
from nixery.attest.signing_keys import SigningKey
from nixery.builds.artifacts import NOTHING, Artifacts, AttachedListing, names_of
from nixery.builds.cache import Cache
from nixery.builds.known_images import KnownImages
from nixery.builds.served import ServedImages
from nixery.interfaces import Provenance
from nixery.model.contents import Contents, pack_contents
from nixery.model.digest import Digest
from nixery.model.image import AMD64, ARM64, parse_image
from nixery.model.manifest import (
    CONFIG_TYPE,
    INDEX_TYPES,
    Descriptor,
    Manifest,
    make_index,
    make_manifest,
    parse_manifest,
)
from nixery.model.request_errors import ManifestUnknown
from nixery.model.service_errors import StorageFull, StorageUnavailable
from nixery.storage.memory import MemoryStorage
from tests.attest.keys import ECDSA_KEY, ED25519_KEY
from tests.builds.fakes import make_parts

reactor: Any = _reactor

ORIGIN = Provenance("git:https://example.com/x", "1" * 40)
CONTENTS = Contents("shell/git", "latest", "x86_64-linux", "s", "r", 1e9, (), (), ())
FIRST, SECOND = SigningKey.of(ECDSA_KEY), SigningKey.of(ED25519_KEY)


def verified(text: str) -> Document:
    """The result of a check, which can't be made anew."""
    content = json.dumps({"result": text}).encode()
    return Document("of/verification", "application/json", content, "https://x/v", "v.json")


@attrs.define
class World:
    """A storage that instances share, and the documents that they made."""

    storage: MemoryStorage = attrs.Factory(MemoryStorage)
    made: list[Digest] = attrs.Factory(list)

    def documents(self, contents: Contents, subject: Descriptor) -> Sequence[Document]:
        self.made.append(subject.digest)
        content = json.dumps({"name": contents.name}).encode()
        return [Document("of/sbom", "application/json", content, "https://x/sbom", "sbom.json")]

    def instance(self, *keys: SigningKey, host: str = "") -> Artifacts:
        """An instance that has just been started."""
        cache = Cache(self.storage)
        return Artifacts(reactor, self.storage, cache, keys, host, self.documents)

    async def image(
        self, contents: Contents | None = CONTENTS, text: bytes = b"config"
    ) -> Manifest:
        """Store an image; without contents, as an older version did."""
        config = Descriptor(CONFIG_TYPE, await self.storage.write_blob(b"config"), 6)
        manifest = make_manifest(config, [])
        packed = "" if contents is None else pack_contents(contents)
        image = None if contents is None else parse_image(contents.name, contents.tag)
        await Cache(self.storage).remember_manifest("0" * 64, manifest, ORIGIN, packed, image)
        return manifest

    def kept(self, listing: AttachedListing) -> bool:
        return all(Digest(hex) in self.storage.blobs for hex in listing.blobs)


@pytest.fixture
def world() -> World:
    """A storage that instances share."""
    return World()


def listed(listing: AttachedListing) -> list[str]:
    """The types of the artifacts that refer to an image."""
    return [each["artifactType"] for each in json.loads(listing.index.content)["manifests"]]


@pytest_twisted.ensureDeferred
async def test_made_once(world: World) -> None:
    """Artifacts are made when they are asked for, once for all who ask, and known after a restart;
    all blobs of them are stored, and are what their digests say."""
    image, artifacts = await world.image(), world.instance(FIRST)
    assert world.made == []
    asking = [Deferred.fromCoroutine(artifacts.of(image.digest)) for _ in range(3)]
    first, *others = await gatherResults(asking)
    assert others == [first, first]
    assert set(first.tags) == {INDEX, SIGNATURE, ATTESTATIONS}
    assert await artifacts.of(image.digest) is first
    assert await world.instance(FIRST).of(image.digest) == first
    assert world.made == [image.digest]
    assert world.kept(first)
    for manifest in first.tags.values():
        assert world.storage.blobs[manifest.digest] == manifest.content


@pytest_twisted.ensureDeferred
async def test_in_use(world: World) -> None:
    """What is listed is in use each time, since whoever asks is about to load it."""
    image, artifacts = await world.image(), world.instance(FIRST)
    listing = await artifacts.of(image.digest)
    world.storage.used.clear()
    await artifacts.of(image.digest)
    assert {each.hex for each in world.storage.used} == set(listing.blobs)


@pytest_twisted.ensureDeferred
async def test_two_instances(world: World) -> None:
    """Two instances that are asked at once make the same, the second what the first has made."""
    image = await world.image()
    asking = [Deferred.fromCoroutine(world.instance(FIRST).of(image.digest)) for _ in range(2)]
    one, two = await gatherResults(asking)
    assert one == two
    assert world.made == [image.digest]


LOST: dict[str, Callable[[AttachedListing], list[str]]] = {
    "an artifact": lambda listing: [listing.index.digest.hex],
    "a signature": lambda listing: [listing.tags[SIGNATURE].digest.hex],
    "everything": lambda listing: list(listing.blobs),
}


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("what", LOST)
async def test_lost(world: World, what: str, restart: bool) -> None:
    """What is lost is made anew when it is asked for, the same as before, by whoever is asked."""
    image, artifacts = await world.image(), world.instance(FIRST)
    before = await artifacts.of(image.digest)
    for hex in LOST[what](before):
        del world.storage.blobs[Digest(hex)]
    artifacts = world.instance(FIRST) if restart else artifacts
    assert await artifacts.of(image.digest) == before
    assert world.kept(before)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("damage", [b"", b"{}", b'{"record": {}, "sha256": ""}'])
async def test_a_record_that_is_damaged(world: World, damage: bytes) -> None:
    """A list that was cut or altered counts as none."""
    image = await world.image()
    before = await world.instance(FIRST).of(image.digest)
    world.storage.records[f"referrers/{image.digest.hex}"] = damage
    assert await world.instance(FIRST).of(image.digest) == before


@pytest_twisted.ensureDeferred
async def test_nothing_of_what_is_no_image(world: World) -> None:
    """Nothing is attached to what is not stored, to a blob that is no manifest, to an image of
    which something is missing, or to an artifact."""
    image, artifacts = await world.image(), world.instance(FIRST)
    listing = await artifacts.of(image.digest)
    own = json.loads(listing.index.content)["manifests"][0]["digest"]
    blob = await world.storage.write_blob(b"a layer")
    for digest in (Digest.of(b"stored nowhere"), blob, Digest.parse(own), listing.index.digest):
        assert await artifacts.of(digest) is NOTHING
    del world.storage.blobs[image.blobs[0].digest]
    assert await artifacts.of(image.digest) is NOTHING
    assert world.made == [image.digest]


@pytest_twisted.ensureDeferred
async def test_without_keys(world: World) -> None:
    """Without keys there are documents; nothing is to be found where cosign looks."""
    image = await world.image()
    listing = await world.instance().of(image.digest)
    assert (listed(listing), set(listing.tags)) == (["of/sbom"], {INDEX})


@pytest_twisted.ensureDeferred
async def test_images_of_older_versions(world: World) -> None:
    """An image of which nothing else is known is signed, in nobody's name; once its contents are
    known, since it was made again, there are documents as well."""
    image = await world.image(contents=None)
    listing = await world.instance(FIRST, host="example.com").of(image.digest)
    assert references(world, listing) == ["example.com"]
    assert len(listed(listing)) == 1
    assert await world.instance().of(image.digest) is NOTHING
    assert await world.image() == image
    assert "of/sbom" in listed(await world.instance(FIRST).of(image.digest))


@pytest.mark.parametrize("title", ["jq", "My service"])
@pytest_twisted.ensureDeferred
async def test_titles_of_older_versions(world: World, title: str, tmp_path: Path) -> None:
    """What a package has an image say is no name that it is signed by."""
    config = Descriptor(CONFIG_TYPE, await world.storage.write_blob(b"config"), 6)
    image = make_manifest(config, [], {"org.opencontainers.image.title": title})
    await world.storage.write_blob(image.content)
    cache = Cache(world.storage)
    await cache.remember_key("0" * 64, image.digest)
    await KnownImages(reactor, world.storage, cache, str(tmp_path)).refresh()
    listing = await world.instance(FIRST, host="example.com").of(image.digest)
    assert references(world, listing) == ["example.com"]


def references(world: World, listing: AttachedListing) -> list[str]:
    """The names that the signatures of an image say."""
    manifest = parse_manifest(listing.tags[SIGNATURE].content)
    assert manifest is not None
    payloads = [json.loads(world.storage.blobs[layer.digest]) for layer in manifest.blobs[1:]]
    return [each["critical"]["identity"]["docker-reference"] for each in payloads]


@pytest_twisted.ensureDeferred
async def test_names(world: World) -> None:
    """A signature names the image, and the host where it is known."""
    image = await world.image()
    assert references(world, await world.instance(FIRST).of(image.digest)) == ["shell/git"]
    named = await world.instance(FIRST, host="example.com").of(image.digest)
    assert references(world, named) == ["example.com/shell/git"]


@pytest.mark.parametrize(
    ("name", "names"),
    [("git", ["git"]), ("shell/arm64/git", ["shell/arm64/git", "shell/git"]), ("", [""])],
)
def test_names_of_one_platform(name: str, names: list[str]) -> None:
    """The image of a platform is pulled by the name of all platforms, too."""
    assert names_of(name) == names


@pytest_twisted.ensureDeferred
async def test_an_index(world: World) -> None:
    """An index is signed by its own name, and has no documents; its images have theirs."""
    image = await world.image()
    index = make_index({"linux/amd64": image}, {})
    named = parse_image("shell/git", "latest")
    await Cache(world.storage).remember_manifest(None, index, ORIGIN, image=named)
    listing = await world.instance(FIRST, host="example.com").of(index.digest)
    assert references(world, listing) == ["example.com/shell/git"]
    assert len(listed(listing)) == 1


@pytest.mark.parametrize("media_type", INDEX_TYPES)
@pytest_twisted.ensureDeferred
async def test_an_index_that_was_built(tmp_path: Path, media_type: str) -> None:
    """An index, and each of its images, is signed by the names that it is pulled by; whoever may
    have the index may have all of that."""
    parts = make_parts(str(tmp_path), systems=(AMD64, ARM64))
    world = World(parts.storage)
    artifacts = Artifacts(reactor, parts.storage, parts.cache, [FIRST], "", world.documents)
    served = ServedImages(reactor, parts.storage, parts.cache, artifacts.blobs_of)
    image = parse_image("git", "latest")
    index = (await parts.builder.manifest(image, index=media_type)).manifest
    await served.note(image, index)
    names = []
    for each in (index, *index.children):
        listing = await artifacts.of(each.digest)
        await served.note_attached("git", each.digest)
        names.append(references(world, listing))
        assert SIGNATURE in listing.tags
        for hex in (each.digest.hex, *listing.blobs):
            assert await served.holds("git", Digest(hex), lambda tag: tag == "latest")
            assert not await served.holds("arm64/git", Digest(hex), lambda tag: True)
    assert names == [["git"], ["git"], ["arm64/git", "git"]]
    assert world.made == [child.digest for child in index.children]
    await parts.builder.stop()


@pytest_twisted.ensureDeferred
async def test_other_keys(world: World) -> None:
    """With other keys, all is signed anew, by each of them; the documents stay the same."""
    image = await world.image()
    before = await world.instance(FIRST).of(image.digest)
    both = await world.instance(SECOND, FIRST).of(image.digest)
    assert len(listed(both)) == 2 * len(listed(before)) - 1
    assert len(references(world, both)) == 2
    assert await world.instance(FIRST).of(image.digest) == before
    assert set(before.blobs) & set(both.blobs)


@pytest_twisted.ensureDeferred
async def test_added_documents(world: World) -> None:
    """A document that was added is signed with the others, takes the place of an earlier one of its
    type, and stays when all else is lost or signed anew."""
    image, artifacts = await world.image(), world.instance(FIRST)
    before = await artifacts.of(image.digest)
    await artifacts.add(image.digest, verified("first"))
    await artifacts.add(image.digest, verified("second"))
    listing = await artifacts.of(image.digest)
    assert len(listed(listing)) == len(listed(before)) + 2
    assert listed(listing).count("of/verification") == 1
    for hex in listing.blobs:
        del world.storage.blobs[Digest(hex)]
    assert await world.instance(FIRST).of(image.digest) == listing
    assert Digest.of(verified("second").content) in world.storage.blobs
    assert listed(await world.instance().of(image.digest)) == ["of/sbom", "of/verification"]
    with pytest.raises(ManifestUnknown):
        await artifacts.add(Digest.of(b"stored nowhere"), verified("third"))


@pytest_twisted.ensureDeferred
async def test_faults(world: World) -> None:
    """Where nothing can be stored, that is said, and is over when it is over."""
    image, artifacts = await world.image(), world.instance(FIRST)
    world.storage.full = True
    with pytest.raises(StorageFull):
        await artifacts.of(image.digest)
    world.storage.full = False
    world.storage.fault = StorageUnavailable("gone")
    with pytest.raises(StorageUnavailable):
        await artifacts.of(image.digest)
    world.storage.fault = None
    assert world.kept(await artifacts.of(image.digest))


@pytest_twisted.ensureDeferred
async def test_what_was_made(world: World) -> None:
    """All blobs of an image's artifacts are told, also by an instance that has not made them."""
    image, artifacts = await world.image(), world.instance(FIRST)
    assert not await artifacts.blobs_of(image.digest)
    listing = await artifacts.of(image.digest)
    for each in (artifacts, world.instance(FIRST), world.instance()):
        assert set(await each.blobs_of(image.digest)) == set(listing.blobs)
