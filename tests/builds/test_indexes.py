"""Indexes: the images of several platforms under one name."""

import json
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import CancelledError, Deferred

from nixery.interfaces import Provenance, Pull
from nixery.model.build_errors import BuildFailed, ImageTimedOut
from nixery.model.errors import NixeryError
from nixery.model.image import AMD64, ARM64, parse_image
from nixery.model.limits import BuildLimits
from nixery.model.manifest import DOCKER_INDEX_TYPE, INDEX_TYPE, LEFT_OUT, Manifest
from nixery.model.package_errors import (
    EvaluationFailed,
    NotAPackage,
    SystemUnsupported,
    UnknownPackage,
)
from nixery.model.request_errors import ManifestUnknown
from nixery.model.service_errors import NixUnavailable, QueueFull, ShuttingDown, StorageFull
from nixery.model.suggestions import Suggestion
from tests.builds.fakes import Parts, make_parts
from tests.waiting import until

BOTH = (AMD64, ARM64)


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    """A builder for two platforms."""
    return make_parts(str(tmp_path), systems=BOTH)


async def pull(parts: Parts, name: str = "git", **asked: Any) -> Pull:
    """Ask for an image, or an index."""
    return await parts.builder.manifest(parse_image(name, "latest"), **asked)


def again(parts: Parts, **others: Any) -> Parts:
    """A new builder over the same storage, as after a restart."""
    return parts.again(systems=BOTH, **others)


def document(manifest: Manifest) -> dict[str, Any]:
    """The JSON of a manifest."""
    read: dict[str, Any] = json.loads(manifest.content)
    return read


@pytest_twisted.ensureDeferred
async def test_an_index_has_the_image_of_each_platform(parts: Parts) -> None:
    """Its manifests are those that each platform's own name gives, in order, all stored."""
    index = (await pull(parts)).manifest
    own = [(await pull(parts, name)).manifest for name in ("amd64/git", "arm64/git")]
    assert list(index.children) == own
    platforms = [each["platform"] for each in document(index)["manifests"]]
    assert platforms == [{"os": "linux", "architecture": a} for a in ("amd64", "arm64")]
    assert index.media_type == document(index)["mediaType"] == INDEX_TYPE
    assert LEFT_OUT not in document(index)["annotations"]
    assert {part.digest for part in index.parts} <= parts.storage.blobs.keys()
    assert len(parts.nix.asked) == 2


@pytest_twisted.ensureDeferred
async def test_images_are_what_they_were(parts: Parts) -> None:
    """A registry of one platform gives a name that says none the same manifest as ever, which is
    the one that an index of several has."""
    alone = make_parts(parts.nix.folder)
    single = (await pull(alone)).manifest
    assert (await pull(alone, "amd64/git")).manifest == single
    assert (await pull(parts)).manifest.children[0] == single
    assert document(single)["annotations"]["org.opencontainers.image.title"] == "git"


@pytest_twisted.ensureDeferred
async def test_a_registry_of_another_platform(tmp_path: Path) -> None:
    """A name without a platform is for the registry's own."""
    parts = make_parts(str(tmp_path), systems=[ARM64])
    assert (await pull(parts)).manifest == (await pull(parts, "arm64/git")).manifest
    assert [image.system for image in parts.nix.asked] == [ARM64]


@pytest_twisted.ensureDeferred
async def test_clients_that_take_no_index(parts: Parts) -> None:
    """They get the manifest of the first platform, for which no other image is made."""
    assert (await pull(parts, index="")).manifest == (await pull(parts, "amd64/git")).manifest
    assert [image.system for image in parts.nix.asked] == [AMD64]


@pytest_twisted.ensureDeferred
async def test_a_docker_manifest_list(parts: Parts) -> None:
    """It has the same manifests as the index, and another type."""
    index = (await pull(parts)).manifest
    listed = (await pull(parts, index=DOCKER_INDEX_TYPE)).manifest
    assert listed.children == index.children
    assert document(listed) == {**document(index), "mediaType": DOCKER_INDEX_TYPE}
    for each in (index, listed):
        assert (await again(parts).builder.stored_manifest(each.digest)).manifest == each


@pytest_twisted.ensureDeferred
async def test_an_index_is_the_same_everywhere(parts: Parts) -> None:
    """Another instance makes the same bytes, whichever platform comes first there."""
    other = make_parts(parts.nix.folder, systems=(ARM64, AMD64))
    assert (await pull(other)).manifest == (await pull(parts)).manifest


@pytest_twisted.ensureDeferred
async def test_known_indexes(parts: Parts) -> None:
    """An index is served from memory, and after a restart from the storage, by name and digest,
    with its provenance; the same pull holds until its tag moves or a blob may be lost."""
    first, second = await pull(parts), await pull(parts)
    assert second.manifest == first.manifest
    assert first.provenance == Provenance("folder:set", "1")
    restarted = again(parts)
    assert await pull(restarted) == first
    assert await again(parts).builder.stored_manifest(first.manifest.digest) == first
    assert restarted.nix.asked == []
    assert second.again is not None
    assert second.again()
    layer = first.manifest.children[1].blobs[1].digest
    del parts.storage.blobs[layer]
    assert not second.again()
    with pytest.raises(ManifestUnknown):
        await parts.builder.stored_manifest(first.manifest.digest)
    assert (await pull(parts)).manifest == first.manifest
    assert layer in parts.storage.blobs


@pytest_twisted.ensureDeferred
async def test_an_index_without_one_of_its_manifests(parts: Parts) -> None:
    """What is lost of an index is made anew, and nothing else."""
    index = (await pull(parts)).manifest
    for lost in (index.digest, *(child.digest for child in index.children)):
        del parts.storage.blobs[lost]
        restarted = again(parts)
        with pytest.raises(ManifestUnknown):
            await restarted.builder.stored_manifest(index.digest)
        assert (await pull(restarted)).manifest == index
        assert len(restarted.nix.asked) == (lost != index.digest)


LASTING = [
    UnknownPackage("git", ["gut"], None, [Suggestion("secret.git", "")]),
    NotAPackage("git", "a set of packages", ["secret"]),
    SystemUnsupported(ARM64),
    EvaluationFailed("Package ‘git-1’ in /nix/x is not available,\nrefusing to evaluate.\n"),
    EvaluationFailed("Refusing to evaluate package 'git-1' because it is marked as broken"),
]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("error", LASTING, ids=lambda error: type(error).__name__)
async def test_a_package_that_one_platform_lacks(parts: Parts, error: NixeryError) -> None:
    """The platform is left out and named with the cause, without hints, and not tried again."""
    parts.nix.errors[ARM64] = error
    found = await pull(parts)
    assert [each["platform"]["architecture"] for each in document(found.manifest)["manifests"]] == [
        "amd64"
    ]
    told = document(found.manifest)["annotations"][LEFT_OUT]
    assert told.startswith("linux/arm64: ")
    assert "secret" not in told
    assert "gut" not in told
    assert found.again is not None
    assert found.again()
    restarted = again(parts)
    assert (await pull(restarted)).manifest == found.manifest
    assert restarted.nix.asked == []


PASSING = [
    BuildFailed("git-1.0", "cannot build on '/srv/secret/x'\nat all", ["log"]),
    ImageTimedOut(60.0),
    NixUnavailable("nix-build was killed"),
    EvaluationFailed("stack overflow"),
]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("error", PASSING, ids=lambda error: type(error).__name__)
async def test_a_platform_that_fails_for_now(parts: Parts, error: NixeryError) -> None:
    """An index without it is served, by digest as well, but is not the name's answer for ever."""
    parts.nix.errors[ARM64] = error
    found = await pull(parts)
    told = document(found.manifest)["annotations"][LEFT_OUT]
    assert told.startswith("linux/arm64: ")
    assert "\n" not in told
    assert "/srv" not in told
    assert found.again is None
    assert (await pull(parts)).manifest == found.manifest
    restarted = again(parts)
    by_digest = await restarted.builder.stored_manifest(found.manifest.digest)
    assert by_digest.manifest == found.manifest
    whole = (await pull(restarted)).manifest
    assert len(whole.children) == 2
    assert [image.system for image in restarted.nix.asked] == [ARM64]
    assert (await pull(again(parts))).manifest == whole


@pytest_twisted.ensureDeferred
async def test_a_build_that_failed_delays_no_pull(tmp_path: Path) -> None:
    """It is tried again in the background, once however many pull meanwhile; they get what there
    is. When it succeeds, the next pull gets all, and when something of that is lost, waits for
    it."""
    parts = make_parts(str(tmp_path), limits=BuildLimits(failure_ttl=0), systems=BOTH)
    parts.nix.errors[ARM64] = BuildFailed("git-1.0", "no")
    partial = (await pull(parts)).manifest
    gate: Deferred[None] = Deferred()
    parts.nix.gate = gate
    told: list[str] = []
    for _ in range(3):
        assert (await pull(parts, on_build=told.append)).manifest == partial
    assert told == []
    assert [image.system for image in parts.nix.asked] == [AMD64, ARM64, ARM64]
    parts.nix.errors.clear()
    gate.callback(None)
    await until(lambda: not parts.builder._indexes._retrying)
    whole = (await pull(parts)).manifest
    assert len(whole.children) == 2
    del parts.storage.blobs[whole.children[1].digest]
    assert (await pull(parts)).manifest == whole


@pytest_twisted.ensureDeferred
async def test_a_stop_while_a_build_is_tried_again(tmp_path: Path) -> None:
    """It is given up, as others are."""
    parts = make_parts(str(tmp_path), limits=BuildLimits(failure_ttl=0), systems=BOTH)
    parts.nix.errors[ARM64] = BuildFailed("git-1.0", "no")
    await pull(parts)
    parts.nix.gate = Deferred()
    await pull(parts)
    assert parts.builder._indexes._retrying
    await parts.builder.stop()
    assert not parts.builder._indexes._retrying


@pytest_twisted.ensureDeferred
async def test_a_partial_index_is_stored_once(parts: Parts) -> None:
    """However often it is pulled meanwhile, nothing is written again."""
    parts.nix.errors[ARM64] = BuildFailed("git-1.0", "no")
    await pull(parts)
    parts.storage.full = True
    assert (await pull(parts)).manifest.is_index


@pytest_twisted.ensureDeferred
async def test_an_image_that_fails_on_all_platforms(parts: Parts) -> None:
    """It is refused with the first platform's cause, whose build is named."""
    parts.nix.errors = {AMD64: BuildFailed("git-1.0", "first"), ARM64: UnknownPackage("git")}
    told: list[str] = []
    with pytest.raises(BuildFailed, match="first"):
        await pull(parts, on_build=told.append)
    head = parts.history.head(told[-1])
    assert head is not None
    assert (head.name, head.error) == ("git", "git-1.0 failed to build: first")
    assert not [key for key in parts.storage.records if key.startswith("manifests/")]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("error", [ShuttingDown(), StorageFull()])
async def test_errors_that_are_about_no_platform(parts: Parts, error: NixeryError) -> None:
    """They fail the pull: an index without a platform would say something of that."""
    parts.nix.errors[ARM64] = error
    with pytest.raises(type(error)):
        await pull(parts)


@pytest_twisted.ensureDeferred
async def test_a_full_queue(tmp_path: Path) -> None:
    """Where there is a place for one build alone, the pull is refused, and tries again."""
    limits = BuildLimits(at_once=1, waiting=0)
    parts = make_parts(str(tmp_path), limits=limits, systems=BOTH)
    gate: Deferred[None] = Deferred()
    parts.nix.gate = gate
    pulling = Deferred.fromCoroutine(pull(parts))
    parts.nix.gate = None
    gate.callback(None)
    with pytest.raises(QueueFull):
        await pulling
    assert len((await pull(parts)).manifest.children) == 2


@pytest_twisted.ensureDeferred
async def test_builds_are_shared_and_charged_to_who_asks(parts: Parts) -> None:
    """An index waits for the builds that pulls of its platforms have begun; each build counts for
    its client like any other."""
    gate: Deferred[None] = Deferred()
    parts.nix.gate = gate
    alone = Deferred.fromCoroutine(pull(parts, "arm64/git", client="one"))
    told: list[str] = []
    both = Deferred.fromCoroutine(pull(parts, client="two", on_build=told.append))
    more = Deferred.fromCoroutine(pull(parts, client="three"))
    builds = list(parts.builder._builds._builds.values())
    clients = [dict(build.ticket.clients) for build in builds]
    assert clients == [{"one": 1, "two": 1, "three": 1}, {"two": 1, "three": 1}]
    assert told[-1] == builds[1].record.id  # that of the first platform
    both.cancel()
    with pytest.raises(CancelledError):
        await both
    assert ["two" in build.ticket.clients for build in builds] == [False, False]
    gate.callback(None)
    assert (await more).manifest.children[1] == (await alone).manifest
    assert len(parts.nix.asked) == 2


@pytest_twisted.ensureDeferred
async def test_indexes_of_official_names(parts: Parts) -> None:
    """``library/NAME`` is the index of ``NAME``, unless the set has something named ``library``."""
    assert (await pull(parts, "library/git")).manifest == (await pull(parts)).manifest
    assert len(parts.nix.asked) == 2
    parts.nix.has_library = True
    parts.resolver.revision = "2"
    assert (await pull(parts, "library/git")).manifest != (await pull(parts)).manifest


@pytest_twisted.ensureDeferred
async def test_another_revision_is_another_index(parts: Parts) -> None:
    """When the source moves, so does the name; the old index is still there by its digest."""
    before = await pull(parts)
    parts.resolver.revision = "2"
    assert (await pull(parts)).manifest.digest != before.manifest.digest
    assert await parts.builder.stored_manifest(before.manifest.digest) == before
