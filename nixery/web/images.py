"""Images for operators: what is stored, made in advance, and removed.

``GET /api/images`` lists them, ``POST`` has one made; ``/api/images/NAME:TAG`` is one of them,
which ``DELETE`` removes; ``POST /api/gc`` tidies the storage up. All of it takes the operator's
token, as a bearer token: browsers send none by themselves, so that no other site can use it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain
from typing import Any

import attrs
from klein import Klein
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from nixery.access.api_token import OperatorAccess
from nixery.attest.document import encode
from nixery.builds.cache import Cache
from nixery.builds.known_images import KnownImages
from nixery.builds.removal import Removals
from nixery.http.answers import BODY_INVALID, RefusedRequest, describe
from nixery.http.fair import FairTurns
from nixery.http.gate import send_body, send_pieces
from nixery.http.paging import json_array, length_of, page_of, tell_next
from nixery.http.request import RegistryRequest, RequestBody, SmallBody
from nixery.http.routes import Route
from nixery.interfaces import IBuilder, IStorage, Pull
from nixery.model.contents import Contents
from nixery.model.digest import Digest
from nixery.model.image import Image, parse_image, split_reference
from nixery.model.image_summary import ImageSummary
from nixery.model.request_errors import Denied, ManifestUnknown
from nixery.model.tags import LATEST
from nixery.reactor import IReactor, in_thread
from nixery.web.auth import Auth
from nixery.web.image_operations import COLLECTION, IMAGE, IMAGES, MOST, PAGE
from nixery.web.operators import answer_operator, check_operator, object_in

_AT_ONCE = 500  # summaries that are looked through in one turn
_WANTED = 'the body must be JSON such as {"name": "shell/git", "tag": "latest"}'
OPERATOR = "operator"
"""The client that builds are charged to which operators ask for."""


class ImagesApi:
    """Answers ``/api/images`` and ``/api/gc``."""

    app = Klein()
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False

    def __init__(
        self,
        reactor: IReactor,
        operators: OperatorAccess,
        builder: IBuilder,
        storage: IStorage,
        cache: Cache,
        images: KnownImages,
        removals: Removals,
        auth: Auth,
        links: bool,
    ) -> None:
        """
        :param auth: says what clients may pull.
        :param links: whether builds are to be seen below ``/builds``.
        """
        self.bodies: Mapping[bytes, Callable[[], RequestBody]] = {b"api": SmallBody}
        self._reactor = reactor
        self._operators = operators
        self._builder = builder
        self._storage = storage
        self._cache = cache
        self._images = images
        self._removals = removals
        self._auth = auth
        self._links = links
        self._turns = FairTurns(reactor)

    @app.route(
        "/api/images",
        endpoint=Route(
            operator=True,
            methods=(b"GET", b"HEAD", b"POST"),
            operations=IMAGES,
        ),
    )
    async def images(self, request: RegistryRequest) -> bytes | None:
        """The images that are stored, or one more."""
        check_operator(self._operators, request)
        if request.method == b"POST":
            return await self._warm(request, _wanted(request))
        await self._list(request)
        return None

    @app.route(
        "/api/images/<path:reference>",
        endpoint=Route(
            operator=True,
            methods=(b"GET", b"HEAD", b"DELETE"),
            operations=IMAGE,
        ),
    )
    async def image(self, request: RegistryRequest, reference: str) -> bytes | None:
        """An image: what is in it, or that it is to go."""
        check_operator(self._operators, request)
        summary = await self._find(reference)
        digest = Digest.parse(summary.digest)
        if request.method == b"DELETE":
            await self._removals.remove(digest)
            request.setResponseCode(204)
            return b""
        own = await self._usual(digest)
        contents = await self._cache.contents(own)
        verified = await self._cache.verified(own)

        def written() -> bytes:
            inside = None if contents is None else _inside(contents)
            return encode({**shown(summary), "contents": inside, "verified": verified})

        body = await in_thread(self._reactor, written)
        request.setHeader(b"Cache-Control", b"no-store")
        await send_body(request, describe(request, "application/json", body))
        return None

    async def _usual(self, digest: Digest) -> Digest:
        """The image itself, or that of an index whose contents are told: that for amd64, where it
        has one."""
        with suppress(ManifestUnknown):
            for child in (await self._cache.manifest_of(digest)).children:
                return child.digest
        return digest

    @app.route(
        "/api/gc",
        endpoint=Route(
            operator=True,
            methods=(b"POST",),
            operations=COLLECTION,
        ),
    )
    async def gc(self, request: RegistryRequest) -> bytes:
        """Drop now what is too much, or of images that were removed a while ago."""
        check_operator(self._operators, request)
        await self._images.refresh()
        await self._removals.work_off()
        tidied = await self._storage.tidy()
        return answer_operator(request, attrs.asdict(tidied))

    async def _list(self, request: RegistryRequest) -> None:
        """The images, those that were made or pulled last first, in pages: ``n`` of them, behind
        the digest ``after``; with ``q``, those whose names and tags have all its words."""
        count, words = length_of(request, PAGE, MOST), request.parameter("q").lower().split()
        every = _behind(iter(self._images.all()), request.parameter("after"))
        page, following = await page_of(
            request, self._turns, every, lambda each: _fits(each, words), count, _AT_ONCE
        )
        if page and following:
            tell_next(request, f"/api/images?n={count}&after={page[-1].digest}")
        request.setHeader(b"Content-Type", b"application/json")
        request.setHeader(b"Cache-Control", b"no-store")
        await send_pieces(request, _listed(page, self._images.complete), self._turns)

    async def _find(self, reference: str) -> ImageSummary:
        """The image that ``NAME:TAG``, ``NAME@DIGEST`` or ``DIGEST`` means.

        :raises ManifestUnknown: if there is none.
        """
        is_digest = reference.startswith("sha256:")
        name, tag, digest = split_reference("@" * is_digest + reference)
        if digest is not None:
            found = await self._images.by_digest(Digest.parse(digest))
            if found is not None and name and found.name not in parse_image(name, tag).names:
                found = None
        else:
            found = self._images.find(name, tag)
        if found is None:
            raise ManifestUnknown(reference)
        return found

    async def _warm(self, request: RegistryRequest, image: Image) -> bytes:
        """Have an image made, unless it is: at once if it is known, else with its build's address.

        :raises NixeryError: if it is refused before a build has begun.
        """
        if not self._auth.somebody_may(image):
            raise Denied(f"{image.name}:{image.tag}")
        begun: Deferred[Pull | str] = Deferred()

        def begin(outcome: Pull | Failure | str) -> None:
            if not begun.called:
                begun.callback(outcome)

        def on_build(id: str) -> None:
            # Not at once: a build that failed a moment ago is told of before its error.
            self._reactor.callLater(0, begin, id)

        asking = self._builder.manifest(image, on_build, OPERATOR, request.id)
        Deferred.fromCoroutine(asking).addBoth(begin)  # later errors are told by the history
        outcome = await begun
        if isinstance(outcome, Pull):
            summary = await self._images.by_digest(outcome.manifest.digest)
            digest = str(outcome.manifest.digest)
            known = summary or ImageSummary(digest, image.name, (image.tag,))
            location = f"/api/images/{digest}"
            document = shown(known)
        else:
            address = f"/api/images/{image.name}:{image.tag}"
            location = f"/builds/{outcome}" if self._links else address
            document = {"name": image.name, "tag": image.tag, "build": outcome}
            request.setResponseCode(202)
            request.build = outcome
        request.setHeader(b"Location", location.encode("ascii"))
        return answer_operator(request, document)


def shown(summary: ImageSummary) -> dict[str, Any]:
    """A summary as operators get it."""
    document = summary.document()
    del document["blobs"]
    return {**document, "tag": summary.tag}


def _inside(contents: Contents) -> dict[str, Any]:
    """The contents of an image, as :func:`encode` takes them: there may be thousands of paths."""
    lists = {name: getattr(contents, name) for name in ("packages", "paths", "layers")}
    converted = {name: map(attrs.asdict, each) for name, each in lists.items()}
    return {**attrs.asdict(contents, recurse=False), **converted}


def _wanted(request: RegistryRequest) -> Image:
    """The image that a body names.

    :raises RefusedRequest: if it names none.
    :raises NixeryError: if that is no name, or no tag.
    """
    document = object_in(request, _WANTED)
    name, tag = document.get("name"), document.get("tag") or LATEST
    if not isinstance(name, str) or not isinstance(tag, str):
        raise RefusedRequest(BODY_INVALID, _WANTED)
    return parse_image(name, tag)


def _behind(summaries: Iterator[ImageSummary], digest: str) -> Iterator[ImageSummary]:
    """The summaries behind that of a digest; all of them where none is named."""
    for summary in summaries if digest else ():
        if summary.digest == digest:
            break
    return summaries


def _fits(summary: ImageSummary, words: Sequence[str]) -> bool:
    text = " ".join((summary.name, *summary.tags, summary.digest)) if words else ""
    return all(word in text for word in words)


def _listed(page: Sequence[ImageSummary], complete: bool) -> Iterator[bytes]:
    """The list's document, in pieces."""
    begin = b'{"complete": %b, "images": ' % (b"true" if complete else b"false")
    return chain([begin], json_array(map(shown, page)), [b"}"])
