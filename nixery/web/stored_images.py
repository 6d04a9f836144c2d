"""Images that are stored, found by the names that people give them, for those who may see them."""

import json
import time
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import attrs

from nixery.builds.cache import Cache
from nixery.builds.known_images import KnownImages, in_order
from nixery.http.answers import NOT_FOUND, QUERY_INVALID, RefusedRequest
from nixery.http.request import RegistryRequest
from nixery.interfaces import IBlobs
from nixery.model.contents import Contents
from nixery.model.digest import Digest
from nixery.model.image import parse_image, split_reference
from nixery.model.image_summary import ImageSummary
from nixery.model.manifest import MAX_MANIFEST_SIZE, Manifest
from nixery.model.request_errors import (
    BlobUnknown,
    DigestInvalid,
    ManifestUnknown,
    NameInvalid,
    TagInvalid,
)
from nixery.model.typed_name import TypedName
from nixery.reactor import IReactor, in_thread
from nixery.recent import Recent
from nixery.web.auth import Auth

_LOST = ("This image is not known here", "No image of that name is stored. Pull it first.")
_GONE = ("This image is not stored any more", "Pull it again: it is made anew.")
_FRESH = 5.0  # seconds for which the order of all images is kept
_CONFIGS = 256  # that are in memory
_PLATFORM = "linux/amd64"  # of an index, the one that is shown where it has it


@attrs.frozen(eq=False)
class StoredImage:
    """An image that is stored, of one platform.

    :param summary: of the image that was asked for, which may be an index of several.
    :param tag: by which it was asked for; empty if it was by digest.
    :param manifest: of the platform.
    :param config: of that manifest; empty if it can't be read.
    :param contents: of the platform; none if an older version made it.
    :param platforms: platform → manifest, where there are several.
    """

    summary: ImageSummary
    tag: str
    manifest: Manifest
    config: Mapping[str, Any]
    contents: Contents | None
    platforms: Mapping[str, Digest]

    @property
    def label(self) -> str:
        """The name by which its page is found, with the tag or digest."""
        return f"{self.summary.name}{f':{self.tag}' if self.tag else f'@{self.summary.digest}'}"

    @property
    def platform(self) -> str:
        """Which of several platforms it is for; empty if there is one alone."""
        own = self.manifest.digest
        return next((each for each, digest in self.platforms.items() if digest == own), "")

    @property
    def every_platform(self) -> list[str]:
        """All platforms that it is there for."""
        own = f"{self.config.get('os')}/{self.config.get('architecture')}"
        return list(self.platforms) or [own]

    @property
    def system(self) -> str:
        """The platform that it is for."""
        return self.platform or self.every_platform[0]

    @property
    def digests(self) -> set[str]:
        """Of what was asked for, and of its images of all platforms."""
        return {self.summary.digest, *map(str, self.platforms.values())}

    @property
    def run(self) -> Mapping[str, Any]:
        """How containers of it are run, as its config has it."""
        run = self.config.get("config")
        return run if isinstance(run, dict) else {}


class StoredImages:
    """Finds images, and tells of those that a client may see."""

    def __init__(
        self,
        reactor: IReactor,
        known: KnownImages,
        cache: Cache,
        blobs: IBlobs,
        auth: Auth,
    ) -> None:
        self._reactor = reactor
        self._known = known
        self._cache = cache
        self._blobs = blobs
        self._auth = auth
        self._configs: Recent[Digest, Mapping[str, Any]] = Recent(time.monotonic, _CONFIGS)
        self._all: list[ImageSummary] = []
        self._since = 0.0

    async def find(self, request: RegistryRequest, text: str) -> tuple[ImageSummary, str]:
        """The image that a text names.

        :param text: ``NAME``, ``NAME:TAG`` or ``NAME@DIGEST``; the packages in any order.
        :return: it, and the tag by which it was named; empty if it was by digest.
        :raises RefusedRequest: if that is no name, or there is none that the client may see.
        :raises StorageUnavailable: if the storage fails.
        """
        try:
            found = await self._find(request, text)
        except (NameInvalid, TagInvalid, DigestInvalid) as error:
            page = ("This is not an image name", f"{error}.")
            raise RefusedRequest(NOT_FOUND, ". ".join(page), page=page) from None
        if found is None:
            raise RefusedRequest(NOT_FOUND, ". ".join(_LOST), page=_LOST)
        return found

    async def _find(self, request: RegistryRequest, text: str) -> tuple[ImageSummary, str] | None:
        path, tag, digest = split_reference(text)
        for name in _spellings(path, tag):
            if digest is not None:
                found = await self._known.by_digest(Digest.parse(digest))
                named = [found] if found is not None and found.name == name else []
                seen = any(self._seen(request, named))
            else:
                found = self._known.find(name, tag)
                seen = found is not None and self._auth.may_see(request, name, tag)
            if found is not None and seen:
                return found, tag if digest is None else ""
        return None

    async def load(self, summary: ImageSummary, tag: str, platform: str = "") -> StoredImage:
        """An image with its documents.

        :param platform: of an index, such as ``linux/arm64``.
        :raises RefusedRequest: if it is not stored any more, or has no such platform.
        :raises StorageUnavailable: if the storage fails.
        """
        try:
            manifest, platforms = await self._manifest(summary, platform)
        except ManifestUnknown:
            raise RefusedRequest(NOT_FOUND, ". ".join(_GONE), page=_GONE) from None
        config = await self._config(manifest.blobs[0].digest)
        contents = await self._cache.contents(manifest.digest)
        image = StoredImage(summary, tag, manifest, config, contents, platforms)
        if platform and platform not in image.every_platform:
            message = f"platform must be {' or '.join(image.every_platform)}"
            page = ("This image has no such platform", f"{image.label}: the {message}.")
            raise RefusedRequest(QUERY_INVALID, message, page=page)
        return image

    async def contents(self, summary: ImageSummary) -> Contents | None:
        """The contents of an image; of several platforms, those of the usual one.

        :raises StorageUnavailable: if the storage fails.
        """
        try:
            manifest, _ = await self._manifest(summary, "")
        except ManifestUnknown:
            return None
        return await self._cache.contents(manifest.digest)

    async def _manifest(
        self, summary: ImageSummary, platform: str
    ) -> tuple[Manifest, dict[str, Digest]]:
        """The manifest of one platform, and those of all where there are several."""
        manifest = await self._cache.manifest_of(Digest.parse(summary.digest))
        if not manifest.is_index:
            return manifest, {}
        platforms = _platforms(manifest)
        first = next(iter(platforms.values()))
        chosen = platforms.get(platform) or platforms.get(_PLATFORM) or first
        return await self._cache.manifest_of(chosen), platforms

    async def recent(self, request: RegistryRequest, most: int) -> list[ImageSummary]:
        """The images that were made or pulled last, as far as a client may see them."""
        return list(islice(self._seen(request, await self._every()), most))

    async def holding(self, request: RegistryRequest, parts: Container[str]) -> list[ImageSummary]:
        """The images with one of some parts in their names, as far as a client may see them; those
        that were made or pulled last are first."""
        every = await self._every()
        named = (e for e in every if any(part in parts for part in e.name.split("/")))
        return list(self._seen(request, named))

    async def called(
        self, request: RegistryRequest, name: TypedName, most: int
    ) -> list[ImageSummary]:
        """The images that have all words of a typed name in theirs, as far as a client may see
        them: those with the fewest others first, and of these the ones used last."""
        words = set(name.words)
        found = [
            each
            for each in await self._every()
            if words
            and words <= set(each.name.split("/"))
            and (not name.names_tag or name.tag in each.tags)
        ]
        found.sort(key=lambda each: each.name.count("/"))
        return list(islice(self._seen(request, found), most))

    async def tags(self, request: RegistryRequest, name: str) -> dict[str, ImageSummary]:
        """The tags by which images of a name were asked for, and a client may see."""
        named = [each for each in await self._every() if each.name == name]
        seen = list(self._seen(request, named))
        return {tag: each for each in reversed(seen) for tag in each.tags}

    async def _every(self) -> Sequence[ImageSummary]:
        """All images, those that were made or pulled last first, as of some seconds ago. Of those
        that a name and tag stood for at one revision, there is the one that it stands for now: an
        index, and not the images of it that have its name."""
        if not self._all or time.monotonic() - self._since > _FRESH:
            # It takes a thousandth of a second for each thousand.
            self._all = await in_thread(self._reactor, _standing, self._known.unordered())
            self._since = time.monotonic()
        return self._all

    def _seen(
        self, request: RegistryRequest, images: Iterable[ImageSummary]
    ) -> Iterator[ImageSummary]:
        """The images that a client may see, with those tags that it may."""
        for image in images:
            tags = [tag for tag in image.tags if self._auth.may_see(request, image.name, tag)]
            # One without tags is of a version that did not record them.
            if image.name and (
                tags or (not image.tags and self._auth.may_see(request, image.name))
            ):
                yield image if len(tags) == len(image.tags) else attrs.evolve(image, tags=tags)

    async def _config(self, digest: Digest) -> Mapping[str, Any]:
        known = self._configs.get(digest)
        if known is None:
            try:
                document = json.loads(await self._blobs.read_blob(digest, MAX_MANIFEST_SIZE))
            except (BlobUnknown, ValueError, RecursionError):
                return {}
            known = document if isinstance(document, dict) else {}
            self._configs.put(digest, known)
        return known


def _spellings(path: str, tag: str) -> Iterator[str]:
    """The names that an image may be known by, the likeliest first: ``library/NAME`` is ``NAME``
    for most sets."""
    image = parse_image(path, tag)
    # A set that has something named ``library`` is asked for two packages.
    for each in (attrs.evolve(image, prefixed=False), image.official):
        if each is not None:
            yield from each.names


def _standing(images: Iterable[ImageSummary]) -> list[ImageSummary]:
    """Images in order, without those that another one has taken the place of."""
    found: dict[tuple[str, ...], ImageSummary] = {}
    for each in in_order(images):
        key = (each.name or each.digest, each.tag, each.source, each.revision)
        if key not in found or each.supersedes(found[key]):
            found[key] = each
    return list(found.values())


def _platforms(index: Manifest) -> dict[str, Digest]:
    """The platforms of an index, in its order."""
    found = {}
    for child in json.loads(index.content)["manifests"]:
        platform = child.get("platform", {})
        name = f"{platform.get('os')}/{platform.get('architecture')}"
        found[name] = Digest.parse(child["digest"])
    return found
