"""Documents about images: ``/images/NAME:TAG/sbom`` and ``/images/NAME:TAG/provenance``.

``NAME@DIGEST`` works too. They are about images that are stored: nothing is built for them.
"""

import hashlib
import json
from collections.abc import Callable

from klein import Klein

from nixery.attest.cyclonedx import cyclonedx_document
from nixery.attest.document import Document
from nixery.attest.provenance import provenance_document
from nixery.attest.spdx import spdx_document
from nixery.builds.cache import Cache
from nixery.builds.known_images import KnownImages
from nixery.http.answers import NOT_FOUND, ErrorKind, RefusedRequest
from nixery.http.fair import FairTurns
from nixery.http.gate import send_body
from nixery.http.request import RegistryRequest
from nixery.http.routes import Errors, Route
from nixery.model.contents import Contents
from nixery.model.digest import Digest
from nixery.model.image import parse_image
from nixery.model.image_summary import ImageSummary
from nixery.model.manifest import INDEX_TYPE, Descriptor, Manifest
from nixery.model.request_errors import (
    DigestInvalid,
    ImageInvalid,
    ManifestUnknown,
    NameInvalid,
    TagInvalid,
)
from nixery.model.tags import LATEST
from nixery.reactor import IReactor, in_thread
from nixery.web.auth import OPEN, Auth

Write = Callable[[Contents, Descriptor], Document]

_FORMATS: dict[str, Write] = {"spdx": spdx_document, "cyclonedx": cyclonedx_document}
_CYCLONEDX = b"application/vnd.cyclonedx+json"
_INVALID = ErrorKind(400, "QUERY_INVALID")
_LOST = (
    "This image is not known here",
    "Documents are about images that are stored. Pull it, and they are here.",
)
_OLDER = (
    "There are no documents about this image",
    "An earlier version made it, and recorded nothing of its contents. Remove it and pull it again,"
    " or pull an image of a newer revision of the package set.",
)


class DocumentsApi:
    """Answers with documents about an image, for GET and HEAD."""

    app = Klein()
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False

    def __init__(
        self, reactor: IReactor, cache: Cache, images: KnownImages, auth: Auth = OPEN
    ) -> None:
        """
        :param images: those that are stored.
        :param auth: says which images a client may see.
        """
        self._reactor = reactor
        self._cache = cache
        self._images = images
        self._auth = auth
        # Documents are written in a thread, which leaves half of the time to the reactor.
        self._turns = FairTurns(reactor, share=0.5)

    # With a tag or a digest: without, these are the names of images with such packages.

    @app.route(
        "/images/<path:name>:<string:tag>/sbom", endpoint=Route(errors=Errors.PAGE_IN_BROWSER)
    )
    async def sbom(self, request: RegistryRequest, name: str, tag: str) -> None:
        """The SBOM of an image: in the ``format`` spdx or cyclonedx, or in one that is accepted."""
        accepted = request.getHeader(b"accept") or b""
        preferred = "cyclonedx" if _CYCLONEDX in accepted else "spdx"
        write = _FORMATS.get(request.parameter("format") or preferred)
        if write is None:
            raise _refused(f"format must be {' or '.join(_FORMATS)}")
        request.setHeader(b"Vary", b"Accept, Authorization")
        await self._send(request, name, tag, write)

    @app.route(
        "/images/<path:name>:<string:tag>/provenance",
        endpoint=Route(errors=Errors.PAGE_IN_BROWSER),
    )
    async def provenance(self, request: RegistryRequest, name: str, tag: str) -> None:
        """The provenance of an image."""
        request.setHeader(b"Vary", b"Authorization")
        await self._send(request, name, tag, provenance_document)

    async def _send(self, request: RegistryRequest, name: str, tag: str, write: Write) -> None:
        """Send a document about the image ``name:tag``, which may be ``name@sha256:…`` as well."""
        try:
            summary = await self._summary(request, name, tag)
        except (NameInvalid, ImageInvalid, TagInvalid, DigestInvalid) as error:
            raise _refused(str(error)) from None
        async with self._turns.turn(request.network):
            document = await self._document(request, Digest.parse(summary.digest), write)
        own = hashlib.sha256(document.content).hexdigest()[:32]
        file = f"{summary.name.replace('/', '-')}.{document.file_name}"
        request.setHeader(b"Content-Type", document.media_type.encode("ascii"))
        request.setHeader(b"Content-Disposition", f'inline; filename="{file}"'.encode("ascii"))
        request.setHeader(b"Cache-Control", b"no-cache")
        request.setHeader(b"ETag", b'"%s"' % own.encode("ascii"))
        if request.has_current(own):
            request.setResponseCode(304)
        else:
            await send_body(request, document.content)

    async def _summary(self, request: RegistryRequest, name: str, tag: str) -> ImageSummary:
        """An image that is stored, and that whoever asks may see.

        :raises RefusedRequest: if there is none.
        """
        before, at, algorithm = name.partition("@")
        if at:
            found = await self._images.by_digest(Digest.parse(f"{algorithm}:{tag}"))
            named = found is not None and found.name == parse_image(before, LATEST).name
            tags = found.tags if found is not None and named else ()
        else:
            image = parse_image(name, tag)
            spellings = [each for each in (image, image.official) if each is not None]
            every = (self._images.find(each.name, tag) for each in spellings)
            found = next((each for each in every if each is not None), None)
            tags = (tag,)
        if found is None or not any(self._auth.may_see(request, found.name, t) for t in tags):
            raise RefusedRequest(NOT_FOUND, ". ".join(_LOST), page=_LOST)
        return found

    async def _document(self, request: RegistryRequest, digest: Digest, write: Write) -> Document:
        try:
            manifest = await self._cache.manifest_of(digest)
        except ManifestUnknown:
            raise RefusedRequest(NOT_FOUND, ". ".join(_LOST), page=_LOST) from None
        subject = _of_platform(manifest, request.parameter("platform"))
        contents = await self._cache.contents(subject.digest)
        if contents is None:
            raise RefusedRequest(NOT_FOUND, ". ".join(_OLDER), page=_OLDER)
        return await in_thread(self._reactor, write, contents, subject)


def _of_platform(manifest: Manifest, platform: str) -> Descriptor:
    """The descriptor of an image's manifest, or of one of those in an index.

    :param platform: as ``linux/arm64``; empty for the first in an index.
    :raises RefusedRequest: if the index has none for the platform.
    """
    if manifest.media_type != INDEX_TYPE:
        return Descriptor(manifest.media_type, manifest.digest, len(manifest.content))
    listed = [each["platform"] for each in json.loads(manifest.content)["manifests"]]
    platforms = [f"{each['os']}/{each['architecture']}" for each in listed]
    if platform and platform not in platforms:
        raise _refused(f"platform must be {' or '.join(platforms)}")
    return manifest.blobs[platforms.index(platform) if platform else 0]


def _refused(message: str) -> RefusedRequest:
    return RefusedRequest(_INVALID, message, page=("There is no such document", f"{message}."))
