"""Images: how their root file systems are made, and what is known of their sets."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, gatherResults

from nixery.builds.making import set_key
from nixery.interfaces import Pull
from nixery.model.image import AMD64, ARM64, parse_image
from nixery.model.package_errors import UnknownPackage
from nixery.model.source import Configuration, FolderContents, LocalFolder, PinnedSource
from nixery.packing.tar import Entry
from tests.builds.fakes import Parts, make_parts, store_path

DATABASE = "nix/var/nix/db/db.sqlite"


async def furnished(parts: Parts, name: str) -> dict[str, Entry]:
    """The entries of an image's top layer."""
    await parts.builder.manifest(parse_image(name, "latest"))
    (made,) = parts.packers.made
    return made


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(("name", "owner"), [("nix-store", 0), ("user/nix-store", 1000)])
async def test_an_image_that_has_nix(tmp_path: Path, name: str, owner: int) -> None:
    """All store paths of an image that has Nix are registered, for its user, and none else."""
    entries = await furnished(make_parts(str(tmp_path)), name)
    assert entries[DATABASE].owner == owner
    database = tmp_path / "db.sqlite"
    database.write_bytes(entries[DATABASE].content)
    with closing(sqlite3.connect(database)) as opened:
        found = [path for (path,) in opened.execute("SELECT path FROM ValidPaths")]
    paths = [store_path("nix-store-1.0"), store_path("libc-2.0")]
    assert sorted(found) == sorted(paths)
    roots = [entry.target for name, entry in entries.items() if "/gcroots/image/" in name]
    assert roots == paths[:1]


@pytest_twisted.ensureDeferred
async def test_an_image_without_nix(tmp_path: Path) -> None:
    """The store is asked for no registration, and the image has none, where Nix is not."""
    parts = make_parts(str(tmp_path))
    assert DATABASE not in await furnished(parts, "git")
    assert parts.nix.asked_for_registration == 0


PLAIN, BOTH = parse_image("amd64/git", "latest"), parse_image("amd64/git/library", "latest")


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    return make_parts(str(tmp_path))


async def digests(parts: Parts, *names: str) -> list[str]:
    """The digests that names are served, asked for one after another."""
    pulls = [await parts.builder.manifest(parse_image(name, "latest")) for name in names]
    return [str(pull.manifest.digest) for pull in pulls]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("names", [("git", "library/git"), ("library/git", "git")])
async def test_same_image(parts: Parts, names: tuple[str, str]) -> None:
    """Both names have one digest, and what is known of the set then needs no evaluation."""
    first, second = await digests(parts, *names)
    assert first == second
    assert parts.nix.asked == [PLAIN]
    assert await digests(parts, "library/jq", "jq")
    assert parts.nix.asked == [PLAIN, parse_image("amd64/jq", "latest")]


@pytest_twisted.ensureDeferred
async def test_one_build(parts: Parts) -> None:
    """Who asks by either name at once waits for one build, which is the plain name's."""
    gate: Deferred[None] = Deferred()
    parts.nix.gate = gate
    seen: list[str] = []

    def pull(name: str) -> Deferred[Pull]:
        image = parse_image(name, "latest")
        return Deferred.fromCoroutine(parts.builder.manifest(image, seen.append))

    waiting = gatherResults([pull("library/git"), pull("git"), pull("library/git")])
    gate.callback(None)
    pulls = await waiting
    assert len({str(each.manifest.digest) for each in pulls}) == 1
    assert len(set(seen)) == 1
    assert parts.nix.asked == [PLAIN]
    assert [head.name for head in list(parts.history.heads())] == ["git"]


@pytest_twisted.ensureDeferred
async def test_a_package_named_library(parts: Parts) -> None:
    """A set that has something named so is asked for both packages."""
    parts.nix.has_library = True
    both, reverse, plain = await digests(parts, "library/git", "git/library", "git")
    assert both == reverse != plain
    assert parts.nix.asked == [PLAIN, BOTH]


@pytest_twisted.ensureDeferred
async def test_the_other_way_round(parts: Parts) -> None:
    """``NAME/library`` names two packages, whatever is known of ``library/NAME``."""
    official, reverse = await digests(parts, "library/git", "git/library")
    assert official != reverse
    assert parts.nix.asked == [PLAIN, BOTH]


@pytest_twisted.ensureDeferred
async def test_after_a_restart(parts: Parts) -> None:
    """What was asked for by that name needs no Nix again; another image is looked at once."""
    known = await digests(parts, "library/git", "jq")
    again = parts.again()
    assert await digests(again, "library/git") == known[:1]
    assert again.nix.asked == []
    assert await digests(again, "library/jq") == known[1:]
    assert await digests(again, "library/jq") == known[1:]
    assert again.nix.asked == [parse_image("amd64/jq", "latest")]


@pytest_twisted.ensureDeferred
async def test_failures(parts: Parts) -> None:
    """What keeps NAME from being made is told to who asks by either name."""
    parts.nix.error = UnknownPackage("git")
    for name in ("library/git", "git"):
        with pytest.raises(UnknownPackage, match="'git'"):
            await digests(parts, name)
    assert len(parts.nix.asked) == 1


def test_what_is_known_is_of_one_set() -> None:
    """Another revision, configuration or system is another set."""
    sets = [
        PinnedSource(LocalFolder("/set"), FolderContents("/set", "1")),
        PinnedSource(LocalFolder("/set"), FolderContents("/set", "2")),
        PinnedSource(LocalFolder("/set"), FolderContents("/set", "1"), Configuration("{}")),
    ]
    keys = {set_key(each, system) for each in sets for system in (AMD64, ARM64)}
    assert len(keys) == 6
    again = PinnedSource(LocalFolder("/set"), FolderContents("/set", "1"))
    assert set_key(again, AMD64) in keys


@pytest_twisted.ensureDeferred
async def test_contents(parts: Parts) -> None:
    """The contents of an image that was made are known by its digest: all of its layers, in order,
    and their store paths."""
    pull = await parts.builder.manifest(parse_image("jq/git", "latest"))
    found = await parts.again().cache.contents(pull.manifest.digest)
    assert found is not None
    assert (found.name, found.tag, found.system) == ("git/jq", "latest", AMD64)
    assert (found.source, found.revision) == ("folder:set", "1")
    assert [each.package for each in found.packages] == ["git", "jq"]
    blobs = [(str(blob.digest), blob.size) for blob in pull.manifest.blobs[1:]]
    assert [(each.digest, each.size) for each in found.layers] == blobs
    packed = sorted(path for layer in found.layers for path in layer.paths)
    assert packed == [each.path for each in found.paths]
    assert (found.programs, found.tools) == (("git", "jq"), ())


@pytest_twisted.ensureDeferred
async def test_joining_a_build_that_does_not_evaluate(parts: Parts) -> None:
    """Who joins a build that takes another instance's image has the set evaluated by the next."""
    image = parse_image("git", "latest")
    key = parts.builder._wanted(image, await parts.builder.latest()).key
    lease = await parts.storage.lease(key)
    plain = Deferred.fromCoroutine(parts.builder.manifest(image))
    official = Deferred.fromCoroutine(parts.builder.manifest(parse_image("library/git", "latest")))
    other = make_parts(parts.nix.folder, parts.storage)
    made = await other.builder._maker.make(image, await other.builder.latest(), lambda event: None)
    await other.cache.remember_manifest(key, made[0], await other.builder.provenance(), made[1])
    await lease.release()
    assert {(await each).manifest.digest for each in (plain, official)} == {made[0].digest}
    assert parts.nix.asked == [PLAIN]
