"""The registry API: the pull part of the OCI distribution specification, version 1.1.

https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md
"""

import json
import re
import secrets
from collections.abc import Callable, Coroutine
from functools import partial
from io import FileIO
from itertools import islice
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

from klein import Klein
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.server import Request
from werkzeug.exceptions import HTTPException

from nixery.builds.served import ServedImages
from nixery.http.answers import Kind, answer, answer_error, log_fault
from nixery.http.conditions import is_exactly, matches
from nixery.http.gate import send_body
from nixery.http.leaving import until_left
from nixery.http.ranges import Range, Selection, parse_ranges, select, whole
from nixery.http.request import RegistryRequest, holder_of, name_of
from nixery.interfaces import BlobFile, IBlobs, IBuilder, Provenance, Redirect, Stream, Value
from nixery.model.digest import Digest
from nixery.model.errors import BlobUnknown, ManifestUnknown, NixeryError
from nixery.model.image import parse_image, parse_name
from nixery.model.manifest import INDEX_TYPE, Manifest
from nixery.model.source import header_value
from nixery.model.tags import LATEST
from nixery.reactor import IReactor
from nixery.web.auth import Auth
from nixery.web.blobs import CutShort, cut, open_file, send_file, send_parts, send_stream
from nixery.web.holding import Holding, Redirected, StartOver
from nixery.web.in_use import Pulls
from nixery.web.monitor import build_url, link_build

_log = Logger()

# https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#referrers-tag-schema
_REFERRERS_TAG = re.compile(r"sha(256|512)-[0-9a-f]{32,}")
_NOT_FOUND = Kind(404, "NOT_FOUND")
_START_OVER = Kind(429, "TOOMANYREQUESTS")
_UNKNOWN = Kind(500, "UNKNOWN")
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
        served: ServedImages | None,
    ) -> None:
        """
        :param holding: holds requests that wait for a build.
        :param auth: lets through what a client may pull.
        :param links: whether answers name the builds that they wait for.
        :param served: by which names digests are to be had; none if everybody may have all.
        """
        self._served = served
        self._links = links
        self._auth = auth
        self._reactor = reactor
        self._builder = builder
        self._storage = storage
        self._holding = holding
        self._pulls = Pulls(reactor, storage)

    @app.route("/v2/")
    def version(self, request: Request) -> bytes:
        """Say that this is a registry."""
        self._auth.greet(request)
        return _json(request, {})

    @app.route("/v2/<path:name>/manifests/<string:reference>")
    @until_left
    async def manifest(self, request: Request, name: str, reference: str) -> bytes:
        """A manifest by tag, which may have to be built first, or by digest."""
        if ":" in reference:
            digest = await self._digest(request, name, reference, ManifestUnknown)
            pull = await self._builder.stored_manifest(digest)
        elif _REFERRERS_TAG.fullmatch(reference):
            self._permit(request, name)
            raise ManifestUnknown(reference)
        else:
            parse_image(name, reference)  # what is no name is that for everybody
            image = parse_image(self._auth.permit(request, name, reference), reference)
            on_build = partial(self._on_build, request)
            work = self._builder.manifest(image, on_build, holder_of(request), name_of(request))
            pull = await self._holding.hold(request, work)
            if self._served is not None:
                await self._served.note(image, pull.manifest)
        if pull.provenance is not None:
            _tell_provenance(request, pull.provenance)
        self._pulls.served(name, pull.manifest)
        return _manifest(request, pull.manifest)

    @app.route("/v2/<path:name>/blobs/<string:digest>")
    @until_left
    async def blob(self, request: Request, name: str, digest: str) -> bytes | None:
        """A blob, or a part of one."""
        parsed = await self._digest(request, name, digest, BlobUnknown)
        with self._pulls.loading(name, parsed):
            return await self._answer_blob(request, parsed)

    @app.route("/v2/<path:name>/tags/list")
    @until_left
    async def tags(self, request: Request, name: str) -> None:
        """The tags of a name, in pages if asked for: every name has those of the source."""
        self._permit(request, name)
        query = parse_qs(urlsplit(request.uri.decode("latin-1")).query)
        last = query.get("last", [""])[0]
        following = (tag for tag in await self._builder.tags() if tag > last)
        seen = (tag for tag in following if self._auth.may_see(request, name, tag))
        number = query.get("n", [""])[0]
        count = min(int(number), _MOST_TAGS) if re.fullmatch("[0-9]{1,9}", number) else _MOST_TAGS
        tags = list(islice(seen, count + 1))
        page = tags[:count]
        if page and len(page) < len(tags):
            link = f'</v2/{name}/tags/list?n={count}&last={quote(page[-1])}>; rel="next"'
            request.setHeader(b"Link", link.encode("ascii"))
        await send_body(request, _json(request, {"name": name, "tags": page}))

    @app.route("/v2/<path:name>/referrers/<string:digest>")
    def referrers(self, request: Request, name: str, digest: str) -> bytes:
        """What refers to a manifest: nothing, ever."""
        self._permit(request, name)
        Digest.parse(digest)
        index = {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": []}
        return _json(request, index, INDEX_TYPE)

    # Klein's annotation wants a handler for any IRequest; it is handed what twisted.web made.
    @app.handle_errors(Exception)  # type: ignore[arg-type]
    def failed(self, request: Request, failure: Failure) -> bytes | None:
        """Answer a request that something was wrong with, or that must wait elsewhere."""
        match failure.value:
            case NixeryError() as error:
                error = self._auth.censored(request, error)
                return answer_error(request, error, build_url(request))
            case Redirected(location=location):
                return _redirect(request, location)
            case StartOver():
                request.setHeader(b"Retry-After", b"1")
                return answer(request, _START_OVER, "the image is still being built; ask again")
            case HTTPException():
                return answer(request, _NOT_FOUND, "the registry API has nothing at this path")
            case _:
                log_fault(request, failure)
                return answer(request, _UNKNOWN, "something went wrong here; it was logged")

    def _on_build(self, request: Request, id: str) -> None:
        """The answer to a request waits for a build, or was found out by one."""
        if isinstance(request, RegistryRequest):
            request.build = id
        if self._links:
            link_build(request, id)

    def _permit(self, request: Request, name: str) -> str:
        """Let through what is about a name, and may be known by whoever asks.

        :return: the name as which it may be: see :meth:`nixery.access.guard.Guard.permit`.
        """
        parse_name(name)
        return self._auth.permit(request, name)

    async def _digest(
        self, request: Request, name: str, text: str, unknown: Callable[[str], NixeryError]
    ) -> Digest:
        """A digest that is asked for by a name, of whose images the client may pull one with it.

        :param unknown: makes the error that there is no such thing.
        """
        permitted = self._permit(request, name)
        digest = Digest.parse(text)
        if self._served is None:
            return digest
        # Credentials may be for the name that was asked for, and not for what it stands for.
        tags = partial(self._auth.may_see, request, name)
        if not await self._served.holds(parse_image(permitted, LATEST).name, digest, tags):
            raise unknown(str(digest))
        return digest

    async def _answer_blob(self, request: Request, digest: Digest) -> bytes | None:
        location = await self._storage.locate(digest)
        match location:
            case Redirect(url=url, size=size):
                if request.method == b"HEAD":
                    # A URL that is signed for GET is good for nothing else.
                    _blob_headers(request, digest, whole(size))
                    return b""
                return _redirect(request, url.encode("ascii"))
            case Stream(size=size, copy=copy):
                wanted = _wanted(request, digest, size)
                _blob_headers(request, digest, wanted)
                if request.method != b"HEAD":
                    send = partial(send_stream, request, copy)
                    await self._or_cut(request, digest, send_parts(request, wanted, send))
                return None
            case Value(content=content):
                wanted = _wanted(request, digest, len(content))
                _blob_headers(request, digest, wanted)
                return wanted.body(content)
            case BlobFile():
                await self._send(request, digest, location)
                return None

    async def _send(self, request: Request, digest: Digest, location: BlobFile) -> None:
        wanted = _wanted(request, digest, location.size)
        begin = wanted.parts[0].range
        try:
            file, first = await self._open(digest, location, begin)
        except BlobUnknown:
            # Someone may just have mended it.
            again = await self._storage.locate(digest)
            if not isinstance(again, BlobFile):
                raise
            location = again
            file, first = await self._open(digest, location, begin)
        with file:
            _blob_headers(request, digest, wanted)
            if request.method == b"HEAD":
                return
            read = [first]
            del first  # whoever reads slowly would have it kept

            def send(part: Range) -> Coroutine[Any, Any, None]:
                first = read.pop() if read else b""
                return send_file(self._reactor, request, file, location, part, first)

            await self._or_cut(request, digest, send_parts(request, wanted, send))

    def _open(
        self, digest: Digest, location: BlobFile, part: Range
    ) -> "Deferred[tuple[FileIO, bytes]]":
        pool = self._reactor.getThreadPool()
        return deferToThreadPool(self._reactor, pool, open_file, digest, location, part)

    async def _or_cut(
        self, request: Request, digest: Digest, sending: Coroutine[Any, Any, None]
    ) -> None:
        """Send a blob; if it ends too early, have the client see that it did."""
        try:
            await sending
        except CutShort as error:
            _log.error("while sending {digest}: {error}", digest=str(digest), error=error)
            cut(request)


def _tell_provenance(request: Request, provenance: Provenance) -> None:
    request.setHeader(b"Nixery-Source", header_value(provenance.source).encode("ascii"))
    request.setHeader(b"Nixery-Revision", header_value(provenance.revision).encode("ascii"))
    if provenance.stale:
        request.setHeader(b"Nixery-Stale", b"true")


def _manifest(request: Request, manifest: Manifest) -> bytes:
    digest = str(manifest.digest)
    request.setHeader(b"Docker-Content-Digest", digest.encode("ascii"))
    request.setHeader(b"ETag", f'"{digest}"'.encode("ascii"))
    if _header(request, b"if-none-match") and matches(_header(request, b"if-none-match"), digest):
        request.setResponseCode(304)
        return b""
    request.setHeader(b"Content-Type", manifest.media_type.encode("ascii"))
    request.setHeader(b"Content-Length", b"%d" % len(manifest.content))
    return manifest.content


def _wanted(request: Request, digest: Digest, size: int) -> Selection:
    """What is asked for of a blob."""
    wanted, condition = _header(request, b"range"), _header(request, b"if-range")
    if wanted and (not condition or is_exactly(condition, str(digest))):
        ranges = parse_ranges(wanted, size)
        if ranges:
            return select(ranges, size, secrets.token_hex(16))
    return whole(size)


def _blob_headers(request: Request, digest: Digest, wanted: Selection) -> None:
    """Set the headers of an answer that is a blob, or of a part of it."""
    text = str(digest)
    request.setResponseCode(wanted.status)
    if wanted.content_range is not None:
        request.setHeader(b"Content-Range", wanted.content_range.encode("ascii"))
    request.setHeader(b"Docker-Content-Digest", text.encode("ascii"))
    request.setHeader(b"ETag", f'"{text}"'.encode("ascii"))
    request.setHeader(b"Content-Type", wanted.media_type.encode("ascii"))
    request.setHeader(b"Content-Length", b"%d" % wanted.length)
    request.setHeader(b"Accept-Ranges", b"bytes")


def _redirect(request: Request, location: bytes) -> bytes:
    request.setResponseCode(307)
    request.setHeader(b"Location", location)
    request.setHeader(b"Content-Length", b"0")
    return b""


def _json(request: Request, document: Any, media_type: str = "application/json") -> bytes:
    body = json.dumps(document).encode("ascii")
    request.setHeader(b"Content-Type", media_type.encode("ascii"))
    request.setHeader(b"Content-Length", b"%d" % len(body))
    return body


def _header(request: Request, name: bytes) -> str:
    return (request.getHeader(name) or b"").decode("latin-1")
