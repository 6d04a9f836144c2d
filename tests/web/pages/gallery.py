"""Stored images, and a server that has pages of them."""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import attrs
from twisted.internet import reactor as _reactor

from nixery.access.guard import Guard
from nixery.attest.signing_keys import SigningKey
from nixery.builds.cache import Cache
from nixery.builds.known_images import KnownImages
from nixery.history.history import History
from nixery.interfaces import Provenance
from nixery.model.contents import (
    Contents,
    LayerFacts,
    PackageFacts,
    PathFacts,
    pack_contents,
    split_name,
)
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
from nixery.model.rules import Patterns, Rules
from nixery.storage.memory import MemoryStorage
from nixery.web.auth import OPEN, Auth
from nixery.web.documents import DocumentsApi
from nixery.web.packages import PackagesApi
from nixery.web.pages.images_api import ImagePages
from nixery.web.stored_images import StoredImages
from tests.web.fake_catalogue import FakeCatalogue
from tests.web.server import Server, serving

reactor: Any = _reactor

SOURCE = "git:https://example.com/x"
MEGA = 1_000_000


def store_path(name: str) -> str:
    """A store path whose hash follows from its name."""
    return f"/nix/store/{Digest.of(name.encode()).hex[:32]}-{name}"


def facts(name: str, size: int, *references: str) -> PathFacts:
    return PathFacts(store_path(name), size, tuple(map(store_path, references)))


GIT = (
    facts("git-2.39.5", 35 * MEGA, "perl-5.36.0", "glibc-2.36"),
    facts("perl-5.36.0", 45 * MEGA, "glibc-2.36"),
    facts("glibc-2.36", 15 * MEGA),
    facts("jq-1.6", MEGA, "glibc-2.36"),
    facts("cacert-3", MEGA // 2),
)
"""The store paths of ``git/jq``."""


@attrs.define
class Gallery:
    """A storage with images, as one daemon knows them."""

    folder: Path
    storage: MemoryStorage = attrs.Factory(MemoryStorage)
    cache: Cache = attrs.field(init=False)
    known: KnownImages = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.cache = Cache(self.storage)
        self.known = KnownImages(reactor, self.storage, self.cache, str(self.folder))

    async def add(
        self,
        name: str = "git/jq",
        tag: str = "latest",
        paths: Sequence[PathFacts] = GIT,
        packages: Mapping[str, Sequence[str]] | None = None,
        run: Any = None,
        revision: str = "1",
        programs: Sequence[str] = ("git", "jq"),
        tools: Sequence[str] = (),
        described: bool = True,
        about: str = "",
    ) -> Manifest:
        """Store an image, with a layer for each store path, or for some of many, and one for the
        root file system.

        :param packages: attribute path → the names of store paths; by default those that are
            called as the image's packages.
        :param run: of the config.
        :param described: whether there is a record of its contents.
        :param about: the description of its packages.
        """
        image = parse_image(name, tag)
        named = packages or {
            package: [f.path[44:] for f in paths if f.path[44:].startswith(f"{package}-")]
            for package in image.own
        }
        each = len(paths) // 100 + 1
        own = [facts.path for facts in paths]
        held = [*(tuple(own[at : at + each]) for at in range(0, len(own), each)), ()]
        texts = ["".join(each) or f"root of {image.name} {revision}" for each in held]
        blobs = [await self.blob(text.encode()) for text in texts]
        architecture = "arm64" if image.system.startswith("aarch64") else "amd64"
        config = {"architecture": architecture, "os": "linux", "config": run or {}}
        descriptor = await self.blob(json.dumps(config).encode(), CONFIG_TYPE)
        labels = {"org.opencontainers.image.title": image.name}
        layers = [Layer(blob, blob.digest, p) for blob, p in zip(blobs, held, strict=True)]
        manifest = make_manifest(descriptor, layers, labels)
        contents = Contents(
            *(image.name, tag, image.system, SOURCE, revision, 0.0),
            packages=tuple(
                PackageFacts(
                    package, tuple(map(store_path, own)), *split_name([*own, package][0]), about
                )
                for package, own in named.items()
            ),
            paths=tuple(paths),
            layers=tuple(
                LayerFacts(str(b.digest), b.size, p) for b, p in zip(blobs, held, strict=True)
            ),
            programs=tuple(programs),
            tools=tuple(tools),
        )
        packed = pack_contents(contents) if described else ""
        origin = Provenance(SOURCE, revision)
        key = Digest.of(f"{name}:{tag}:{revision}".encode()).hex
        await self.cache.remember_manifest(key, manifest, origin, packed, image)
        return manifest

    async def add_index(self, children: Mapping[str, Manifest], name: str = "git/jq") -> Manifest:
        """Store the index of some images.

        :param children: platform → image.
        """
        index, image = make_index(children, {}), parse_image(name, "latest")
        key = Digest.of(f"index of {name}".encode()).hex
        await self.cache.remember_manifest(key, index, Provenance(SOURCE, "1"), image=image)
        return index

    async def blob(self, content: bytes, media_type: str = "application/x") -> Descriptor:
        return Descriptor(media_type, await self.storage.write_blob(content), len(content))


def _package(package: str, own: Sequence[str], about: str) -> PackageFacts:
    paths = tuple(map(store_path, own))
    return PackageFacts(package, paths, *split_name([*own, package][0]), about)


def _layer(blob: Descriptor, paths: tuple[str, ...]) -> LayerFacts:
    return LayerFacts(str(blob.digest), blob.size, paths)


@asynccontextmanager
async def showing(
    gallery: Gallery,
    auth: Auth = OPEN,
    history: History | None = None,
    catalogue: FakeCatalogue | None = None,
    keys: Sequence[SigningKey] = (),
) -> AsyncIterator[Server]:
    """Serve the pages of images and packages for the length of a block."""
    images = StoredImages(reactor, gallery.known, gallery.cache, gallery.storage, auth)
    packages = PackagesApi(reactor, catalogue or FakeCatalogue(), images, auth)
    documents = DocumentsApi(reactor, images)
    more = [ImagePages(reactor, images, history, bool(keys)).app, packages.app, documents.app]
    async with serving(
        storage=gallery.storage,
        auth=auth,
        history=history,
        catalogue=catalogue,
        images=images,
        keys=keys,
        more=more,
    ) as server:
        yield server


def but(*names: str, tags: Sequence[str] = ()) -> Auth:
    """Lets everybody have all but images of some packages or tags."""
    return Auth(Guard(rules=partial(Rules, Patterns(deny=names, deny_tags=tags))))
