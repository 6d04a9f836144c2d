"""What is attached to images: by the referrers API, and by tags.

https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#listing-referrers
"""

import re
from contextlib import suppress

from klein import Klein

from nixery.builds.artifacts import NOTHING, Artifacts, AttachedListing
from nixery.http.answers import NOT_FOUND, RefusedRequest, describe
from nixery.http.request import RegistryRequest
from nixery.http.routes import Route
from nixery.model.artifact import of_type
from nixery.model.request_errors import ManifestUnknown
from nixery.web.auth import Auth
from nixery.web.manifests import answer_manifest
from nixery.web.permitted import PermittedDigests
from nixery.web.registry_operations import KEYS, PEM_TYPE, REFERRERS

PUBLIC_KEYS = "/.well-known/nixery/cosign.pub"
"""Where the public keys are to be had."""
# No tag of this form is one of the package source, whatever its digest is worth.
_TAG = re.compile(r"(sha256|sha512)-([0-9a-f]{32,})(\.[a-z]+)?")
# https://github.com/opencontainers/image-spec/blob/v1.1.1/descriptor.md#digests
_OTHER_DIGEST = re.compile(r"(?!sha256:)[a-z0-9]+(?:[+._-][a-z0-9]+)*:[a-zA-Z0-9=_-]{32,256}")


def is_attached(reference: str) -> bool:
    """Whether a tag stands for what is attached to an image, and not for a revision."""
    return _TAG.fullmatch(reference) is not None


class ReferrersApi:
    """Answers with what is attached to images."""

    app = Klein()
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False

    def __init__(self, auth: Auth, artifacts: Artifacts, permitted: PermittedDigests) -> None:
        self._auth = auth
        self._artifacts = artifacts
        self._permitted = permitted

    @app.route(
        "/v2/<path:name>/referrers/<string:digest>",
        endpoint=Route("registry", operations=REFERRERS),
    )
    async def referrers(self, request: RegistryRequest, name: str, digest: str) -> bytes:
        """The artifacts that refer to a manifest; none for one that was never served."""
        listing = NOTHING
        if _OTHER_DIGEST.fullmatch(digest):
            self._permitted.permit(request, name)
        else:
            with suppress(ManifestUnknown):
                listing = await self._listing(request, name, digest)
        index, kind = listing.index, request.parameter("artifactType")
        if kind:
            request.setHeader(b"OCI-Filters-Applied", b"artifactType")
            index = of_type(index.content, kind)
        return answer_manifest(request, index)

    async def tagged(self, request: RegistryRequest, name: str, tag: str) -> bytes:
        """Answer with the manifest of a tag that stands for what is attached to an image.

        :param tag: one for which :func:`is_attached` holds.
        :raises ManifestUnknown: if there is nothing of that kind.
        """
        match = _TAG.fullmatch(tag)
        algorithm, hex, suffix = match.groups("") if match is not None else ("", "", "")
        if (algorithm, len(hex)) != ("sha256", 64):
            self._permitted.permit(request, name)
            raise ManifestUnknown(tag)
        listing = await self._listing(request, name, f"{algorithm}:{hex}")
        manifest = listing.tags.get(suffix)
        if manifest is None or not listing.blobs:
            raise ManifestUnknown(tag)
        return answer_manifest(request, manifest)

    @app.route(PUBLIC_KEYS, endpoint=Route(public=True, operations=KEYS))
    def public_keys(self, request: RegistryRequest) -> bytes:
        """The keys that signatures are verified with, that of the first signature first."""
        keys = self._artifacts.public_keys
        if not keys:
            raise RefusedRequest(NOT_FOUND, "this registry signs nothing")
        return describe(request, PEM_TYPE, keys.encode("ascii"))

    async def _listing(self, request: RegistryRequest, name: str, text: str) -> AttachedListing:
        """What is attached to an image, as far as the client may pull that by the name.

        :raises ManifestUnknown: if it may not.
        """
        subject = await self._permitted.digest(request, name, text, ManifestUnknown)
        listing = await self._artifacts.of(subject)
        await self._permitted.note_attached(request, name, subject)
        self._auth.keep(request, lambda: self._artifacts.current(subject) is listing)
        return listing
