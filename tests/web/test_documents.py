"""Documents about images, on a real port."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import attrs
import pytest
import pytest_twisted
from twisted.internet.defer import maybeDeferred
from twisted.internet.endpoints import TCP4ServerEndpoint

from nixery.access.guard import Guard
from nixery.attest.image_documents import documents_of
from nixery.attest.provenance import builder_at
from nixery.builds.cache import Cache
from nixery.builds.known_images import KnownImages
from nixery.interfaces import Provenance
from nixery.model.contents import Contents, pack_contents
from nixery.model.digest import Digest
from nixery.model.image import parse_image
from nixery.model.manifest import (
    CONFIG_TYPE,
    INDEX_TYPE,
    MANIFEST_TYPE,
    Descriptor,
    Manifest,
    make_manifest,
)
from nixery.model.rules import Patterns, Rules
from nixery.storage.memory import MemoryStorage
from nixery.web.auth import OPEN, Auth
from nixery.web.documents import DocumentsApi
from nixery.web.pages.api import PagesApi
from nixery.web.pages.images_api import ImagePages
from nixery.web.site import make_site
from nixery.web.stored_images import StoredImages
from tests.attest.samples import USUAL, many
from tests.web.server import FakeBuilder, Server, reactor

ORIGIN = Provenance("git:https://example.com/x", "1" * 40)
BUILDER = builder_at("registry.example.com:5000")
SPDX, CYCLONEDX, PROVENANCE = (
    f"application/{kind}+json" for kind in ("spdx", "vnd.cyclonedx", "vnd.in-toto")
)


@attrs.define
class Documents:
    """A registry with documents, and its images."""

    server: Server
    cache: Cache

    async def make(
        self, name: str, tag: str = "latest", contents: Contents | None = USUAL
    ) -> Manifest:
        """Store an image."""
        config = {"os": "linux", "architecture": "amd64", "name": name}
        digest = await self.cache._storage.write_blob(json.dumps(config).encode())
        manifest = make_manifest(Descriptor(CONFIG_TYPE, digest, 6), [])
        await self.remember(manifest, name, tag, contents)
        return manifest

    async def remember(
        self, manifest: Manifest, name: str, tag: str, contents: Contents | None
    ) -> None:
        key, packed = Digest.of(f"{name}:{tag}".encode()).hex, ""
        if contents is not None:
            packed = pack_contents(attrs.evolve(contents, name=name))
        image = parse_image(name, tag)
        await self.cache.remember_manifest(key, manifest, ORIGIN, image=image, contents=packed)


@asynccontextmanager
async def documents(folder: Path, auth: Auth = OPEN) -> AsyncIterator[Documents]:
    """Serve documents for the length of a block."""
    builder, storage = FakeBuilder(), MemoryStorage()
    cache = Cache(storage, reactor=reactor)
    images = KnownImages(reactor, storage, cache, str(folder))
    stored = StoredImages(reactor, images, cache, storage, auth)
    more = [DocumentsApi(reactor, stored, BUILDER).app, ImagePages(reactor, stored, None).app]
    pages = PagesApi()
    site = make_site(reactor, builder, storage, 25, pages, auth=auth, more=more)
    port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(site)
    try:
        yield Documents(Server(builder, storage, port.getHost().port, site), cache)
    finally:
        await maybeDeferred(port.stopListening)


@pytest_twisted.ensureDeferred
async def test_documents(tmp_path: Path) -> None:
    """Each document of an image is to be had by tag and digest, in the same bytes as its artifact,
    with its type, and with a name for its file."""
    async with documents(tmp_path) as made:
        manifest = await made.make("git/jq", "v1")
        subject = Descriptor(MANIFEST_TYPE, manifest.digest, len(manifest.content))
        expected = documents_of(attrs.evolve(USUAL, name="git/jq"), subject, BUILDER)
        for reference in ("jq/git:v1", f"git/jq@{manifest.digest}"):
            for path, document in zip(
                ("sbom?format=spdx", "sbom?format=cyclonedx", "provenance"), expected, strict=True
            ):
                answer = await made.server.ask(f"/images/{reference}/{path}")
                assert answer.status == 200
                assert answer.body == document.content
                assert answer.headers["content-type"] == document.media_type
                file = f'inline; filename="git-jq.{document.file_name}"'
                assert answer.headers["content-disposition"] == file


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("query", "accept", "media_type"),
    [
        ("", "", SPDX),
        ("", "*/*", SPDX),
        ("", SPDX, SPDX),
        ("", CYCLONEDX, CYCLONEDX),
        ("?format=spdx", CYCLONEDX, SPDX),
    ],
)
async def test_formats(tmp_path: Path, query: str, accept: str, media_type: str) -> None:
    """The format is the one that is asked for, else one that is accepted."""
    async with documents(tmp_path) as made:
        await made.make("git")
        headers = {"Accept": accept}
        answer = await made.server.ask(f"/images/git:latest/sbom{query}", headers=headers)
    assert answer.headers["content-type"] == media_type


@pytest_twisted.ensureDeferred
async def test_unchanged(tmp_path: Path) -> None:
    """Who has a document already is not sent it again; HEAD is answered as GET."""
    async with documents(tmp_path) as made:
        await made.make("git")
        path = "/images/git:latest/provenance"
        first = await made.server.ask(path)
        again = await made.server.ask(path, headers={"If-None-Match": first.headers["etag"]})
        head = await made.server.ask(path, "HEAD")
    assert (again.status, again.body) == (304, b"")
    assert head.headers["content-length"] == str(len(first.body))
    assert head.body == b""


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("git:other/sbom", 404, "not known"),
        ("jq:latest/sbom", 404, "not known"),
        (f"git@sha256:{'0' * 64}/sbom", 404, "not known"),
        ("git@sha256:0/sbom", 404, "digest"),
        ("git@md5:0/provenance", 404, "digest"),
        ("git:latest/sbom?format=xml", 400, "spdx or cyclonedx"),
        ("GIT!:latest/sbom", 404, "GIT!"),
        ("git:-x/sbom", 404, "tag"),
        ("git:latest/sbom?platform=linux/arm64", 400, "linux/amd64"),
        ("old:latest/sbom", 404, "earlier version"),
        ("old:latest/provenance", 404, "earlier version"),
        ("gone:latest/sbom", 404, "not stored any more"),
    ],
)
async def test_refusals(tmp_path: Path, path: str, status: int, words: str) -> None:
    """Every refusal says what is wrong, as a document and as a page."""
    async with documents(tmp_path) as made:
        await made.make("git")
        await made.make("old", contents=None)
        gone = await made.make("gone")
        made.cache._by_digest.forget(gone.digest)
        del made.server.storage.blobs[gone.digest]  # type: ignore[attr-defined]
        for accept in ("*/*", "text/html"):
            answer = await made.server.ask(f"/images/{path}", headers={"Accept": accept})
            assert answer.status == status
            assert words in answer.body.decode()


@pytest_twisted.ensureDeferred
async def test_images_that_may_not_be_pulled(tmp_path: Path) -> None:
    """Nobody learns of an image, by tag or digest, that they may not pull; nor by the digest of one
    that they may pull by another name or tag."""
    rules = Patterns(deny=("secret",))
    auth = Auth(Guard(rules=partial(Rules, rules)))
    async with documents(tmp_path, auth) as made:
        await made.make("git")
        secret = await made.make("secret")
        for reference in ("secret:latest", f"secret@{secret.digest}", f"git@{secret.digest}"):
            answer = await made.server.ask(f"/images/{reference}/sbom")
            assert answer.status == 404
        assert (await made.server.ask("/images/git:latest/sbom")).status == 200


@pytest_twisted.ensureDeferred
async def test_platforms(tmp_path: Path) -> None:
    """Of an index, the documents are about the image of one platform: the first, or the one that is
    asked for."""
    async with documents(tmp_path) as made:
        children = [await made.make(name) for name in ("amd64/git", "arm64/git")]
        listed = [
            {
                **Descriptor(MANIFEST_TYPE, child.digest, len(child.content)).document(),
                "platform": {"os": "linux", "architecture": architecture},
            }
            for child, architecture in zip(children, ("amd64", "arm64"), strict=True)
        ]
        content = json.dumps({"mediaType": INDEX_TYPE, "manifests": listed}).encode()
        blobs = tuple(Descriptor(MANIFEST_TYPE, c.digest, len(c.content)) for c in children)
        index = Manifest(content, INDEX_TYPE, Digest.of(content), blobs)
        await made.remember(index, "git", "latest", None)
        for query, child in (("", 0), ("?platform=linux/arm64", 1)):
            answer = await made.server.ask(f"/images/git:latest/provenance{query}")
            digest = json.loads(answer.body)["subject"][0]["digest"]["sha256"]
            assert digest == children[child].digest.hex
        answer = await made.server.ask("/images/git:latest/provenance?platform=linux/s390x")
        assert answer.status == 400
        assert b"linux/amd64 or linux/arm64" in answer.body


@pytest_twisted.ensureDeferred
async def test_names_without_a_tag(tmp_path: Path) -> None:
    """``/images/git/sbom`` is the page of an image with a package named sbom."""
    async with documents(tmp_path) as made:
        await made.make("git")
        answer = await made.server.ask("/images/git/sbom")
    assert answer.status == 404
    assert b"No image of that name" in answer.body


@pytest_twisted.ensureDeferred
async def test_many_paths(tmp_path: Path) -> None:
    """The documents of an image of thousands of store paths are to be had, and read anew from the
    storage."""
    async with documents(tmp_path) as made:
        manifest = await made.make("git", contents=many(3000))
        made.cache._contents.forget(manifest.digest)
        answer = await made.server.ask("/images/git:latest/sbom?format=cyclonedx")
    assert len(json.loads(answer.body)["components"]) == 3000
