"""What is remembered of images and layers."""

import json

import pytest
import pytest_twisted
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from nixery.builds.cache import Cache
from nixery.interfaces import Provenance
from nixery.model.contents import Contents, pack_contents
from nixery.model.digest import Digest
from nixery.model.manifest import CONFIG_TYPE, Descriptor, Layer, Manifest, make_manifest
from nixery.model.request_errors import ManifestUnknown
from nixery.model.service_errors import StorageUnavailable
from nixery.storage.memory import MemoryStorage

KEY = "0" * 64
ORIGIN = Provenance("git:https://example.com/x", "1" * 40)
PATHS = tuple(f"/nix/store/{letter * 32}-{letter}" for letter in "ab")


async def stored_layer(storage: MemoryStorage) -> Layer:
    digest = await storage.write_blob(b"layer")
    return Layer(Descriptor("gzip", digest, 5), Digest.of(b"tar"), PATHS)


async def stored_manifest(storage: MemoryStorage) -> Manifest:
    config = Descriptor(CONFIG_TYPE, await storage.write_blob(b"config"), 6)
    return make_manifest(config, [await stored_layer(storage)])


@pytest_twisted.ensureDeferred
async def test_layers_are_remembered() -> None:
    """A layer that was remembered is known by its key, in another process too, and by no other."""
    storage = MemoryStorage()
    layer = await stored_layer(storage)
    await Cache(storage).remember_layer(KEY, layer)
    assert await Cache(storage).layer(KEY) == layer
    assert await Cache(storage).layer("1" * 64) is None


@pytest_twisted.ensureDeferred
async def test_manifests_are_remembered() -> None:
    """A manifest that was remembered is known by image key and by digest, with and without what
    is in memory."""
    storage, ours = MemoryStorage(), None
    manifest = await stored_manifest(storage)
    ours = Cache(storage)
    await ours.remember_manifest(KEY, manifest, ORIGIN)
    for cache in (ours, Cache(storage)):
        assert await cache.manifest(KEY) == manifest
        assert await cache.manifest_of(manifest.digest) == manifest
        assert await cache.manifest("1" * 64) is None


@pytest_twisted.ensureDeferred
async def test_contents_are_remembered() -> None:
    """Contents stay as they were written first; there are none of an image without, or where the
    record was altered."""
    storage = MemoryStorage()
    manifest = await stored_manifest(storage)
    await Cache(storage).remember_manifest(KEY, manifest, ORIGIN)
    assert await Cache(storage).contents(manifest.digest) is None
    ours = Cache(storage)
    for made in (1.0, 2.0):
        await ours.remember_manifest(KEY, manifest, ORIGIN, pack_contents(contents(made)))
        for cache in (ours, Cache(storage)):
            assert await cache.contents(manifest.digest) == contents(1.0)
    key = f"contents/{manifest.digest.hex}"
    storage.records[key] = (storage.records[key] or b"").replace(b'"eJ', b'"eK')
    assert await ours.contents(manifest.digest) == contents(1.0)
    assert await Cache(storage).contents(manifest.digest) is None


def contents(made: float) -> Contents:
    return Contents("git", "latest", "x86_64-linux", "git:x", "1", made, (), (), ())


@pytest_twisted.ensureDeferred
async def test_nothing_is_known_without_its_blobs() -> None:
    """Neither manifest nor layer is known while a blob of it is missing or cut, whatever is in
    memory, and both are again when it is back."""
    storage = MemoryStorage()
    ours = Cache(storage)
    manifest, layer = await stored_manifest(storage), await stored_layer(storage)
    await ours.remember_manifest(KEY, manifest, ORIGIN)
    await ours.remember_layer(KEY, layer)
    for digest in [manifest.digest, *(blob.digest for blob in manifest.blobs)]:
        content = storage.blobs.pop(digest)
        assert await ours.manifest(KEY) is None
        storage.blobs[digest] = content[:-1]
        assert await ours.manifest(KEY) is None
        assert (await ours.layer(KEY) is None) == (digest == layer.descriptor.digest)
        storage.blobs[digest] = content
        assert await ours.manifest(KEY) == manifest


def altered(content: bytes) -> list[bytes]:
    """Other bytes in a record's place, most of them well-formed."""
    record = json.loads(content)
    other = {**record, "record": {**record["record"], "digest": f"sha256:{KEY}"}}
    return [
        *(b"", b"{}", b"[]", b"3", b"\xff", b"[" * 100_000, content[:-1], content + b"x"),
        *(json.dumps(each).encode() for each in (other, {"record": record["record"]}, [record])),
    ]


@pytest_twisted.ensureDeferred
async def test_altered_records_count_as_missing() -> None:
    """A record that was cut, altered or replaced by something else is none, and no error."""
    storage = MemoryStorage()
    manifest, layer = await stored_manifest(storage), await stored_layer(storage)
    await Cache(storage).remember_manifest(KEY, manifest, ORIGIN)
    await Cache(storage).remember_layer(KEY, layer)
    for key, content in list(storage.records.items()):
        for damaged in altered(content):
            storage.records[key] = damaged
            ours = Cache(storage)
            found = [
                await ours.manifest(KEY),
                await ours.layer(KEY),
                await ours.provenance(manifest.digest),
            ]
            assert found.count(None) == 1
        storage.records[key] = content
    assert await Cache(storage).manifest(KEY) == manifest


@given(st.binary(max_size=60))
def test_any_record(content: bytes) -> None:
    """Whatever bytes stand in a record's place, it counts as none."""
    storage = MemoryStorage()
    storage.records[f"manifests/{KEY}"] = content
    storage.records[f"builds/{KEY}"] = content
    for ask in (Cache(storage).manifest(KEY), Cache(storage).layer(KEY)):
        asked: Deferred[object] = Deferred.fromCoroutine(ask)
        assert asked.result is None


@pytest_twisted.ensureDeferred
async def test_other_blobs_are_no_manifests() -> None:
    """A digest that is unknown, or of another blob, is no manifest's."""
    storage = MemoryStorage()
    manifest = await stored_manifest(storage)
    for digest in [manifest.digest, *(blob.digest for blob in manifest.blobs)]:
        with pytest.raises(ManifestUnknown):
            await Cache(storage).manifest_of(digest)


@pytest_twisted.ensureDeferred
async def test_memory_is_bounded() -> None:
    """Memory holds the manifests that were used last, and the others are read from the storage."""
    storage = MemoryStorage()
    ours = Cache(storage, remembered=2)
    first = await stored_manifest(storage)
    layer = Layer(first.blobs[1], first.digest)
    made = [make_manifest(first.blobs[0], [layer] * count) for count in (1, 2, 3)]
    for number, manifest in enumerate(made[:2]):
        await ours.remember_manifest(f"{number:064}", manifest, ORIGIN)
    await ours.manifest_of(made[0].digest)
    await ours.remember_manifest(KEY, made[2], ORIGIN)
    assert await ours.manifest_of(made[1].digest) == made[1]
    storage.blobs.clear()
    assert await ours.manifest_of(made[2].digest) == made[2]
    with pytest.raises(ManifestUnknown):
        await ours.manifest_of(made[0].digest)


@pytest_twisted.ensureDeferred
async def test_provenance() -> None:
    """What an image was made from is known after a restart; what it was served for last, before;
    of an image that was never made nothing is known."""
    storage = MemoryStorage()
    ours = Cache(storage)
    manifest = await stored_manifest(storage)
    assert await ours.provenance(manifest.digest) is None
    await ours.remember_manifest(KEY, manifest, ORIGIN)
    assert await ours.provenance(manifest.digest) == ORIGIN
    ours.note_provenance(manifest.digest, Provenance("git:x", "2", stale=True))
    assert await ours.provenance(manifest.digest) == Provenance("git:x", "2", stale=True)
    assert await Cache(storage).provenance(manifest.digest) == ORIGIN


@pytest_twisted.ensureDeferred
async def test_faults_of_the_storage_are_told() -> None:
    """A storage that can't be asked is a fault, and not an image that is unknown."""
    storage = MemoryStorage()
    await Cache(storage).remember_layer(KEY, await stored_layer(storage))
    storage.fault = StorageUnavailable("no")
    for ask in (Cache(storage).manifest, Cache(storage).layer):
        with pytest.raises(StorageUnavailable):
            await ask(KEY)
