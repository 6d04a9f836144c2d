"""Documents about images: ``/images/NAME:TAG/sbom`` and ``/images/NAME:TAG/provenance``.

``NAME@DIGEST`` works too. They are about images that are stored: nothing is built for them.
"""

import hashlib
from collections.abc import Callable, Mapping

from klein import Klein

from nixery.attest.cyclonedx import cyclonedx_document
from nixery.attest.document import IN_TOTO, Document
from nixery.attest.provenance import provenance_document
from nixery.attest.spdx import spdx_document
from nixery.http.answers import NOT_FOUND, QUERY_INVALID, RefusedRequest
from nixery.http.fair import FairTurns
from nixery.http.gate import send_body
from nixery.http.operation import Answers, Operation
from nixery.http.request import RegistryRequest
from nixery.http.routes import Errors, Route
from nixery.model.contents import Contents
from nixery.model.manifest import Descriptor
from nixery.model.request_errors import ManifestUnknown
from nixery.reactor import IReactor, in_thread
from nixery.web.stored_images import StoredImage, StoredImages

Write = Callable[[Contents, Descriptor], Document]

_FORMATS: dict[str, Write] = {"spdx": spdx_document, "cyclonedx": cyclonedx_document}
_CYCLONEDX = b"application/vnd.cyclonedx+json"
_LOST = (
    "This image is not stored any more",
    "Pull it again, and there are documents about it.",
)
_OLDER = (
    "There are no documents about this image",
    "An earlier version made it, and recorded nothing of its contents. Remove it and pull it again,"
    " or pull an image of a newer revision of the package set.",
)
_PLATFORM = {"platform": "of several, such as linux/arm64"}
_FORMAT = {"format": f"{' or '.join(_FORMATS)}; else as the client accepts"}


def _route(answers: Answers, query: Mapping[str, str]) -> Route:
    operations = {b"GET": Operation({200: answers}, query=query)}
    return Route(errors=Errors.PAGE_IN_BROWSER, operations=operations)


_SBOM = _route(Answers("The SBOM."), {**_FORMAT, **_PLATFORM})
_PROVENANCE = _route(Answers("An in-toto statement.", media_type=IN_TOTO), _PLATFORM)


class DocumentsApi:
    """Answers with documents about an image, for GET and HEAD."""

    app = Klein()
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False

    def __init__(self, reactor: IReactor, images: StoredImages) -> None:
        """
        :param images: finds those that a client may see.
        """
        self._reactor = reactor
        self._images = images
        # Documents are written in a thread, which leaves half of the time to the reactor.
        self._turns = FairTurns(reactor, share=0.5)

    # With a tag or a digest: without, these are the names of images with such packages.

    @app.route("/images/<path:name>:<string:tag>/sbom", endpoint=_SBOM)
    async def sbom(self, request: RegistryRequest, name: str, tag: str) -> None:
        """The SBOM of an image: in the ``format`` spdx or cyclonedx, or in one that is accepted."""
        accepted = request.getHeader(b"accept") or b""
        preferred = "cyclonedx" if _CYCLONEDX in accepted else "spdx"
        write = _FORMATS.get(request.parameter("format") or preferred)
        if write is None:
            raise _refused(f"format must be {' or '.join(_FORMATS)}")
        request.setHeader(b"Vary", b"Accept, Authorization")
        await self._send(request, f"{name}:{tag}", write)

    @app.route("/images/<path:name>:<string:tag>/provenance", endpoint=_PROVENANCE)
    async def provenance(self, request: RegistryRequest, name: str, tag: str) -> None:
        """The provenance of an image."""
        request.setHeader(b"Vary", b"Authorization")
        await self._send(request, f"{name}:{tag}", provenance_document)

    async def _send(self, request: RegistryRequest, text: str, write: Write) -> None:
        """Send a document about an image.

        :param text: see :meth:`StoredImages.find`.
        """
        summary, tag = await self._images.find(request, text)
        async with self._turns.turn(request.network):
            try:
                image = await self._images.load(summary, tag, request.parameter("platform"))
            except ManifestUnknown:
                raise RefusedRequest(NOT_FOUND, ". ".join(_LOST), page=_LOST) from None
            _check_platform(image, request.parameter("platform"))
            if image.contents is None:
                raise RefusedRequest(NOT_FOUND, ". ".join(_OLDER), page=_OLDER)
            manifest = image.manifest
            subject = Descriptor(manifest.media_type, manifest.digest, len(manifest.content))
            document = await in_thread(self._reactor, write, image.contents, subject)
        own = hashlib.sha256(document.content).hexdigest()[:32]
        file = f"{image.contents.name.replace('/', '-')}.{document.file_name}"
        request.setHeader(b"Content-Type", document.media_type.encode("ascii"))
        request.setHeader(b"Content-Disposition", f'inline; filename="{file}"'.encode("ascii"))
        request.setHeader(b"Cache-Control", b"no-cache")
        request.setHeader(b"ETag", b'"%s"' % own.encode("ascii"))
        if request.has_current(own):
            request.setResponseCode(304)
        else:
            await send_body(request, document.content)


def _check_platform(image: StoredImage, platform: str) -> None:
    """Refuse a document about another platform than the one that is asked for, if one is.

    :raises RefusedRequest: if the image has none for the platform.
    """
    own = f"{image.config.get('os')}/{image.config.get('architecture')}"
    platforms = list(image.platforms) or [own]
    if platform and platform not in platforms:
        raise _refused(f"platform must be {' or '.join(platforms)}")


def _refused(message: str) -> RefusedRequest:
    return RefusedRequest(QUERY_INVALID, message, page=("There is no such document", f"{message}."))
