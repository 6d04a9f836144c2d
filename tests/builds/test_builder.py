"""One image's way from its name to its manifest."""

import json
import os
import re
from pathlib import Path
from typing import Any

import attrs
import pytest
import pytest_twisted
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from zope.interface.verify import verifyObject

from nixery.interfaces import IBuilder, INix, IResolver, Provenance
from nixery.model.build_errors import BuildFailed, PackingFailed
from nixery.model.identity import COMMIT, Naming
from nixery.model.image import parse_image
from nixery.model.manifest import Manifest
from nixery.model.popularity import Popularity
from nixery.model.request_errors import ManifestUnknown
from nixery.model.service_errors import ShuttingDown, SourceChanged, SourceUnavailable, StorageFull
from nixery.packing.job import PackedLayer
from tests.builds.fakes import Parts, make_parts, reactor, store_path

GIT = parse_image("git", "latest")


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    return make_parts(str(tmp_path))


def build(parts: Parts, name: str = "git") -> "Deferred[Manifest]":
    async def pull() -> Manifest:
        return (await parts.builder.manifest(parse_image(name, "latest"))).manifest

    return Deferred.fromCoroutine(pull())


def layers_of(manifest: Manifest) -> list[str]:
    return [str(blob.digest) for blob in manifest.blobs[1:]]


def test_interfaces(parts: Parts) -> None:
    """The builder and its fakes keep the promises of their interfaces."""
    assert verifyObject(IBuilder, parts.builder)
    assert verifyObject(INix, parts.nix)
    assert verifyObject(IResolver, parts.resolver)


@pytest_twisted.ensureDeferred
async def test_lookups_are_counted_once(parts: Parts) -> None:
    """An image that has to be made counts as missing once, and as known when it is."""
    await build(parts)
    await build(parts)
    assert parts.cache.lookups == {"missing": 1, "memory": 1}


@pytest_twisted.ensureDeferred
async def test_everything_is_stored(parts: Parts) -> None:
    """When a manifest is answered, it and all its blobs are stored, and the store is released."""
    manifest = await build(parts)
    assert manifest.digest in parts.storage.blobs
    assert {blob.digest for blob in manifest.blobs} <= parts.storage.blobs.keys()
    assert (await parts.builder.stored_manifest(manifest.digest)).manifest == manifest
    assert parts.nix.released == ["guard of git"]


@pytest_twisted.ensureDeferred
async def test_known_images_do_not_start_nix(parts: Parts) -> None:
    """A known image is answered from memory, and after a restart from the storage."""
    manifest = await build(parts)
    assert await build(parts) == manifest
    assert len(parts.nix.asked) == 1
    restarted = parts.again()
    assert await build(restarted) == manifest
    assert restarted.nix.asked == []


@pytest_twisted.ensureDeferred
async def test_another_revision_is_another_image(parts: Parts) -> None:
    """When the source moves, Nix is asked; the same packages give the same layers, and only the
    root file system, which says what it was made from, is packed again."""
    manifest = await build(parts)
    layers = layers_of(manifest)
    parts.resolver.revision = "2"
    moved = layers_of(await build(parts))
    assert moved[:-1] == layers[:-1]
    assert moved[-1] != layers[-1]
    assert len(parts.nix.asked) == 2
    assert len(parts.packers.jobs) == len(layers) + 1
    parts.resolver.revision = "1"
    assert await build(parts.again()) == manifest


@pytest_twisted.ensureDeferred
async def test_images_of_one_revision_are_the_same_everywhere(parts: Parts) -> None:
    """Another instance makes the same manifest of the same revision, with the same date, which
    changes nothing else."""
    naming = Naming(created=COMMIT)
    parts.resolver.committed = 1_700_000_000
    undated = await build(parts)
    others = [parts.again(naming=naming), make_parts(parts.nix.folder, naming=naming)]
    for other in others:
        other.resolver.committed = 1_700_000_000
    dated, again = [await build(other) for other in others]
    assert dated == again
    configs = [json.loads(parts.storage.blobs[m.blobs[0].digest]) for m in (undated, dated)]
    assert configs[0]["created"] == "1970-01-01T00:00:01Z"
    assert configs[1] == {**configs[0], "created": "2023-11-14T22:13:20Z"}
    assert layers_of(dated) == layers_of(undated)


@pytest_twisted.ensureDeferred
async def test_a_revision_without_a_date(parts: Parts) -> None:
    """What is no commit has the date of what has none."""
    undated = await build(parts)
    assert await build(parts.again(naming=Naming(created=COMMIT))) == undated


@pytest_twisted.ensureDeferred
async def test_what_an_image_says_of_itself(parts: Parts) -> None:
    """Name and revision are in the config's labels, the manifest's annotations, and a file."""
    manifest = await build(parts, "jq/git")
    labels = json.loads(parts.storage.blobs[manifest.blobs[0].digest])["config"]["Labels"]
    assert labels == json.loads(manifest.content)["annotations"]
    assert labels["org.opencontainers.image.title"] == "git/jq"
    assert labels["org.opencontainers.image.revision"] == "1"
    entry = parts.packers.made[0]["etc/os-release"]
    assert b'VARIANT="git/jq"' in entry.content
    assert b"BUILD_ID=1\n" in entry.content


@pytest_twisted.ensureDeferred
async def test_many_ask_one_builds(parts: Parts) -> None:
    """However many ask for an image, one build runs, and all get its manifest."""
    parts.nix.gate = Deferred()
    waiting = [build(parts) for _ in range(8)]
    parts.nix.gate.callback(None)
    manifests = [await each for each in waiting]
    assert len({manifest.digest for manifest in manifests}) == 1
    assert len(parts.nix.asked) == 1


@pytest_twisted.ensureDeferred
async def test_many_ask_one_resolves(parts: Parts) -> None:
    """However many ask for a tag at once, its revision is looked up once; who leaves meanwhile
    hurts nobody."""
    gate: Deferred[None] = Deferred()
    parts.resolver.gate = gate
    waiting = [build(parts), build(parts, "jq"), build(parts)]
    leaving = waiting.pop()
    leaving.cancel()
    with pytest.raises(CancelledError):
        await leaving
    gate.callback(None)
    assert len({(await each).digest for each in waiting}) == 2
    assert parts.resolver.asked == ["latest"]


@pytest_twisted.ensureDeferred
async def test_the_source_is_told_who_asks(parts: Parts) -> None:
    """A tag is looked up for the client that asks for the image."""
    await parts.builder.manifest(parse_image("git", "latest"), client="somebody")
    assert parts.resolver.clients == ["somebody"]


@pytest_twisted.ensureDeferred
async def test_who_leaves_hurts_nobody(parts: Parts) -> None:
    """A build goes on when one who waits leaves, and when all have left."""
    gate: Deferred[None] = Deferred()
    parts.nix.gate = gate
    staying, leaving = build(parts), build(parts)
    alone = build(parts, "jq")
    for each in (leaving, alone):
        each.cancel()
        with pytest.raises(CancelledError):
            await each
    gate.callback(None)
    assert await staying
    parts.nix.gate = None
    await build(parts, "jq")
    assert [image.name for image in parts.nix.asked] == ["git", "jq"]


@pytest_twisted.ensureDeferred
async def test_missing_blobs_are_made_anew(parts: Parts) -> None:
    """An image with a blob that is gone is built again, that blob alone is packed, and the
    digest is the same."""
    manifest = await build(parts)
    for blob in manifest.blobs:
        del parts.storage.blobs[blob.digest]
        packed = len(parts.packers.jobs)
        assert (await build(parts)).digest == manifest.digest
        assert blob.digest in parts.storage.blobs
        assert len(parts.packers.jobs) - packed == (blob != manifest.blobs[0])


@pytest_twisted.ensureDeferred
async def test_altered_records_are_not_believed(parts: Parts) -> None:
    """A record that was cut, altered, or is nonsense counts as none."""
    manifest = await build(parts)
    for damage in (lambda c: c[:-3], lambda c: b"[]", lambda c: b"", _point_elsewhere):
        for key, content in list(parts.storage.records.items()):
            parts.storage.records[key] = damage(content)
        assert (await build(parts.again())).digest == manifest.digest


def _point_elsewhere(content: bytes) -> bytes:
    """The record of another layer: well-formed, and wrong."""
    document = json.loads(content)
    document["record"]["digest"] = "sha256:" + "0" * 64
    return json.dumps(document).encode()


@pytest_twisted.ensureDeferred
async def test_images_share_layers(parts: Parts) -> None:
    """What another image's layer holds is not packed again."""
    one = await build(parts)
    two = await build(parts, "git/jq")
    shared = set(layers_of(one)) & set(layers_of(two))
    assert len(shared) == 2  # libc and git
    assert len(parts.packers.jobs) == len(set(layers_of(one)) | set(layers_of(two)))


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("budget", [1, 2, 3, 94])
async def test_budget(parts: Parts, budget: int) -> None:
    """No image has more layers than the budget, and all of it is in them."""
    manifest = await build(parts.again(budget), "git/jq/curl")
    assert len(layers_of(manifest)) == min(budget, 5)


@pytest_twisted.ensureDeferred
async def test_failures_reach_all_and_are_no_image(parts: Parts) -> None:
    """All who wait for a build that fails are told why, and no image is known."""
    error = BuildFailed("git-1.0", "it is broken")
    gate: Deferred[None] = Deferred()
    parts.nix.gate, parts.nix.error = gate, error
    waiting = [build(parts) for _ in range(3)]
    gate.callback(None)
    for each in waiting:
        with pytest.raises(BuildFailed) as caught:
            await each
        assert caught.value is error
    assert not [key for key in parts.storage.records if key.startswith("manifests/")]


@pytest_twisted.ensureDeferred
async def test_failures_of_packing(parts: Parts) -> None:
    """When one layer can't be packed, there is no image, and the store is released."""
    parts.packers.error = lambda job: PackingFailed("/x", "no") if job.entries else None
    with pytest.raises(PackingFailed):
        await build(parts)
    assert not [key for key in parts.storage.records if key.startswith("manifests/")]
    assert parts.nix.released == ["guard of git"]


@pytest_twisted.ensureDeferred
async def test_instances_make_an_image_once(parts: Parts) -> None:
    """Of two instances that are asked for an image, one makes it, and the other waits and takes
    that; if it could not be made, the other one tries."""
    other = parts.again()
    for name, fault in (("git", None), ("curl", SourceUnavailable("s", "it is a test"))):
        parts.nix.asked.clear()
        other.nix.asked.clear()
        gate: Deferred[None] = Deferred()
        parts.nix.gate, parts.nix.error = gate, fault
        first = build(parts, name)
        second = build(other, name)
        assert (len(parts.nix.asked), other.nix.asked) == (1, [])
        assert not second.called
        first.addErrback(lambda failure: failure.type)
        gate.callback(None)
        result = await first
        manifest = await second
        assert result == (manifest if fault is None else SourceUnavailable)
        assert len(other.nix.asked) == (fault is not None)


@pytest_twisted.ensureDeferred
async def test_stop_while_another_instance_makes_it(parts: Parts) -> None:
    """An instance that stops while it waits for another one's image leaves the lease alone."""
    other = parts.again()
    gate: Deferred[None] = Deferred()
    parts.nix.gate = gate
    first, second = build(parts), build(other)
    await other.builder.stop()
    with pytest.raises(ShuttingDown):
        await second
    gate.callback(None)
    assert await first


@pytest_twisted.ensureDeferred
async def test_stop(parts: Parts) -> None:
    """Those who wait when the daemon stops are told so, and nothing new is begun."""
    parts.nix.gate = Deferred()
    waiting = build(parts)
    await parts.builder.stop()
    with pytest.raises(ShuttingDown):
        await waiting
    with pytest.raises(ShuttingDown):
        await build(parts, "jq")
    assert [image.name for image in parts.nix.asked] == ["git"]


@pytest_twisted.ensureDeferred
async def test_stop_while_packing(parts: Parts) -> None:
    """A stop gives up what is being packed: the store is released, and nothing is left behind."""
    parts.packers.gate = gate = Deferred[PackedLayer]()
    waiting = build(parts)
    while not parts.packers.jobs:
        await deferLater(reactor, 0.01, lambda: None)
    await parts.builder.stop()
    with pytest.raises(ShuttingDown):
        await waiting
    assert gate.called
    assert parts.nix.released == ["guard of git"]
    assert not parts.storage.blobs
    assert not parts.storage.records
    assert not [job for job in parts.packers.jobs if os.path.exists(job.sink)]


@pytest_twisted.ensureDeferred
async def test_full_storage(parts: Parts) -> None:
    """Without room there is no image, that is said, and with room there is."""
    parts.storage.full = True
    with pytest.raises(StorageFull):
        await build(parts)
    parts.storage.full = False
    assert await build(parts)
    assert parts.nix.released == ["guard of git"] * 2


@pytest_twisted.ensureDeferred
async def test_altered_blobs_are_not_served(parts: Parts) -> None:
    """A manifest that was altered in the storage is made anew, the same."""
    manifest = await build(parts)
    parts.storage.blobs[manifest.digest] = manifest.content.replace(b"sha256", b"sha255", 1)
    restarted = parts.again()
    assert await build(restarted) == manifest
    assert len(restarted.nix.asked) == 1
    assert parts.storage.blobs[manifest.digest] == manifest.content


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("names", [["git/jq", "jq/git"], ["git", "git/git"]])
async def test_order_and_repeats(parts: Parts, names: list[str]) -> None:
    """However packages are named, one image is built, once."""
    assert len({(await build(parts, name)).digest for name in names}) == 1
    assert len(parts.nix.asked) == 1


@pytest_twisted.ensureDeferred
async def test_outputs_that_are_files(parts: Parts) -> None:
    """A package that is a plain file is in its image's closure, and adds nothing to its root."""
    parts.nix.empty = True
    for name in ("git-1.0", "libc-2.0"):
        path = Path(parts.nix.physical(store_path(name)))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert len(layers_of(await build(parts))) == 3
    assert not [name for name in parts.packers.made[0] if "git" in name]


@pytest_twisted.ensureDeferred
async def test_outputs_that_vanish(parts: Parts) -> None:
    """A store path whose files are gone is an error that names it, and the store is released."""
    parts.nix.empty = True
    with pytest.raises(PackingFailed, match=re.escape(store_path("git-1.0"))):
        await build(parts)
    assert parts.nix.released == ["guard of git"]


@pytest_twisted.ensureDeferred
async def test_a_source_that_was_edited_meanwhile(parts: Parts) -> None:
    """What was made of a folder while it was edited is nothing that can be asked for again."""
    parts.resolver.edited = True
    with pytest.raises(SourceChanged):
        await build(parts)
    assert not parts.storage.records
    assert parts.nix.released == ["guard of git"]
    parts.resolver.edited = False
    await build(parts)


@pytest_twisted.ensureDeferred
async def test_provenance(parts: Parts) -> None:
    """A pull says what it was made from, by tag and by digest, after a restart as well."""
    pull = await parts.builder.manifest(GIT)
    assert pull.provenance == Provenance("folder:set", "1")
    for builder in (parts.builder, parts.again().builder):
        assert await builder.stored_manifest(pull.manifest.digest) == pull
    parts.resolver.revision = "2"
    moved = await parts.builder.manifest(GIT)
    assert moved.provenance == Provenance("folder:set", "2")
    assert await parts.builder.stored_manifest(pull.manifest.digest) == pull


@pytest_twisted.ensureDeferred
async def test_pulls_that_hold(parts: Parts) -> None:
    """A pull may be repeated without asking until its tag moves or a blob may be lost; each time,
    it counts as one."""
    first, second = await parts.builder.manifest(GIT), await parts.builder.manifest(GIT)
    digest = first.manifest.digest
    assert second.again is not None
    assert second.again()
    assert second.again()
    assert parts.cache.lookups == {"missing": 1, "memory": 3}
    by_digest = await parts.builder.stored_manifest(digest)
    assert by_digest.again is not None
    assert by_digest.again()
    parts.resolver.revision = "2"
    assert not second.again()
    parts.resolver.revision = "1"
    assert second.again()
    parts.cache.note_provenance(digest, Provenance("folder:set", "another"))
    assert not by_digest.again()
    assert second.again()
    assert by_digest.again()  # it is said to be made from what was pulled last
    del parts.storage.blobs[first.manifest.blobs[0].digest]
    assert not second.again()
    assert not by_digest.again()


@pytest_twisted.ensureDeferred
async def test_pulls_of_which_nobody_tells(parts: Parts) -> None:
    """Where the storage can't tell of losses, each pull looks."""
    await parts.builder.manifest(GIT)
    parts.storage.changes = lambda: None  # type: ignore[method-assign]
    pull = await parts.builder.manifest(GIT)
    assert pull.again is None
    assert (await parts.builder.stored_manifest(pull.manifest.digest)).again is None


@pytest_twisted.ensureDeferred
async def test_only_manifests_are_manifests(parts: Parts) -> None:
    """A config or a layer asked for as a manifest is unknown."""
    manifest = await build(parts)
    for blob in manifest.blobs:
        with pytest.raises(ManifestUnknown):
            await parts.again().builder.stored_manifest(blob.digest)


def test_frozen() -> None:
    """Values that are handed around can't be changed."""
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        GIT.tag = "other"  # type: ignore[misc]


@pytest_twisted.ensureDeferred
async def test_one_popularity_table_for_an_image(tmp_path: Path) -> None:
    """A table that is replaced while layers are grouped counts for the next image: this one is
    grouped by the table that it began with."""
    tables: list[Popularity] = []

    class Replaced(dict[str, int]):
        """A table that another one takes the place of when it is looked into."""

        def get(self, *arguments: Any) -> Any:
            tables[:] = [{"git-1.0": 1_000_000, "libc-2.0": 2}]
            return super().get(*arguments)

    counts = {"libc-2.0": 1000, "jq-1.0": 500, "git-1.0": 2}
    made = []
    for table in (counts, Replaced(counts)):
        tables[:] = [table]
        parts = make_parts(str(tmp_path), budget=3, popularity=lambda: tables[0])
        made.append(await build(parts, "git/jq/htop"))
    assert tables != [counts]
    assert made[0].digest == made[1].digest
