"""The registry API: the pull part of the OCI distribution specification, version 1.1.

https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md
"""

from functools import partial
from itertools import islice
from urllib.parse import quote

from klein import Klein

from nixery.http.accept import named_type
from nixery.http.answers import describe_json
from nixery.http.gate import send_body
from nixery.http.paging import length_of, tell_next
from nixery.http.request import RegistryRequest
from nixery.http.routes import Route
from nixery.interfaces import IBlobs, IBuilder, Provenance
from nixery.model.artifact import is_artifact
from nixery.model.image import parse_image
from nixery.model.manifest import INDEX_TYPES
from nixery.model.request_errors import BlobUnknown, ManifestUnknown
from nixery.model.source import header_value
from nixery.reactor import IReactor
from nixery.web.auth import Auth
from nixery.web.blobs import BlobAnswers, ImagesInUse
from nixery.web.holding import Holding
from nixery.web.manifests import answer_manifest
from nixery.web.permitted import PermittedDigests
from nixery.web.referrers import ReferrersApi, is_attached
from nixery.web.registry_operations import BLOB, MANIFEST, TAGS, VERSION

_MOST_TAGS = 10_000


class RegistryApi:
    """Answers everything below ``/v2/``, for GET and HEAD."""

    app = Klein()
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False

    def __init__(
        self,
        reactor: IReactor,
        builder: IBuilder,
        storage: IBlobs,
        holding: Holding,
        links: bool,
        auth: Auth,
        permitted: PermittedDigests,
        referrers: ReferrersApi,
        accel: str | None,
    ) -> None:
        """
        :param holding: holds requests that wait for a build.
        :param auth: lets through what a client may pull.
        :param links: whether answers name the builds that they wait for.
        :param permitted: lets through digests that a client may have.
        :param referrers: answers for tags of what is attached to images.
        :param accel: see :class:`BlobAnswers`.
        """
        self._permitted = permitted
        self._referrers = referrers
        self._links = links
        self._auth = auth
        self._builder = builder
        self._blobs = BlobAnswers(reactor, storage, auth, accel)
        self._holding = holding
        self._in_use = ImagesInUse(reactor, storage)

    @app.route("/v2/", endpoint=Route("registry", always=True, operations=VERSION))
    def version(self, request: RegistryRequest) -> bytes:
        """Confirm that this is a registry."""
        self._auth.greet(request)
        self._auth.keep(request, lambda: True)
        return describe_json(request, {})

    @app.route(
        "/v2/<path:name>/manifests/<string:reference>",
        endpoint=Route("manifest", operations=MANIFEST),
    )
    async def manifest(self, request: RegistryRequest, name: str, reference: str) -> bytes:
        """A manifest by tag, which may have to be built first, or by digest."""
        if ":" in reference:
            digest = await self._permitted.digest(request, name, reference, ManifestUnknown)
            pull = await self._builder.stored_manifest(digest)
        elif is_attached(reference):
            return await self._referrers.tagged(request, name, reference)
        else:
            image = parse_image(name, reference)  # what is no name is that for everybody
            permitted = self._auth.permit(request, name, reference)
            if permitted != name:
                image = parse_image(permitted, reference)
            on_build = partial(self._on_build, request)
            if not image.has_platform:
                request.setHeader(b"Vary", b"Accept")
            index = named_type(request, INDEX_TYPES)
            work = self._builder.manifest(image, on_build, request.holder, request.id, index=index)
            pull = await self._holding.hold(request, work)
            if self._permitted.served is not None:
                await self._permitted.served.note(image, pull.manifest)
        if pull.provenance is not None:
            _tell_provenance(request, pull.provenance)
        manifest = pull.manifest
        parts = tuple(part.digest for part in manifest.parts)
        again = pull.again
        if not is_artifact(manifest):  # whose image is still the one in use
            self._in_use.served(name, parts)
            again = again and partial(self._in_use.served_again, name, parts, again)
        if again is not None and not request.build:
            self._auth.keep(request, again)
        return answer_manifest(request, manifest)

    @app.route("/v2/<path:name>/blobs/<string:digest>", endpoint=Route("blob", operations=BLOB))
    async def blob(self, request: RegistryRequest, name: str, digest: str) -> bytes | None:
        """A blob, or a part of one."""
        parsed = await self._permitted.digest(request, name, digest, BlobUnknown)
        image = self._in_use.image(name)
        with self._in_use.loading(name, parsed):
            return await self._blobs.answer(
                request, parsed, lambda: self._in_use.image(name) == image
            )

    @app.route("/v2/<path:name>/tags/list", endpoint=Route("registry", operations=TAGS))
    async def tags(self, request: RegistryRequest, name: str) -> None:
        """The tags of a name, in pages if asked for: every name has those of the source."""
        self._permitted.permit(request, name)
        last = request.parameter("last")
        following = (tag for tag in await self._builder.tags() if tag > last)
        seen = (tag for tag in following if self._auth.may_see(request, name, tag))
        count = length_of(request, _MOST_TAGS, _MOST_TAGS)
        tags = list(islice(seen, count + 1))
        page = tags[:count]
        if page and len(page) < len(tags):
            tell_next(request, f"/v2/{name}/tags/list?n={count}&last={quote(page[-1])}")
        await send_body(request, describe_json(request, {"name": name, "tags": page}))

    def _on_build(self, request: RegistryRequest, id: str) -> None:
        """The answer to a request waits for a build, or was found out by one."""
        request.build = id
        if self._links:  # https://www.rfc-editor.org/rfc/rfc5989#section-3
            request.setHeader(b"Link", f'</builds/{id}>; rel="monitor"'.encode("ascii"))


def _tell_provenance(request: RegistryRequest, provenance: Provenance) -> None:
    request.setHeader(b"Nixery-Source", header_value(provenance.source).encode("ascii"))
    request.setHeader(b"Nixery-Revision", header_value(provenance.revision).encode("ascii"))
    if provenance.stale:
        request.setHeader(b"Nixery-Stale", b"true")
