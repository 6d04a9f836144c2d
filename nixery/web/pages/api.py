"""Pages for people: in a browser as HTML, in a terminal as text."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from textwrap import fill
from urllib.parse import parse_qs, urlsplit

import attrs
from klein import Klein
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from twisted.web.server import Request
from twisted.web.template import tags
from werkzeug.exceptions import HTTPException

from nixery.history.history import History
from nixery.history.summary import BuildHead
from nixery.http.answers import RETRY_AFTER, log_fault
from nixery.http.fair import FairTurns
from nixery.http.gate import send_body
from nixery.http.leaving import until_left
from nixery.http.request import client_of, host_of
from nixery.interfaces import IBuilder, Provenance
from nixery.model.digest import Digest
from nixery.model.errors import NameInvalid, NixeryError, TagInvalid
from nixery.model.example import USUAL
from nixery.model.image import parse_image
from nixery.model.manifest import Manifest
from nixery.model.networks import network_of
from nixery.model.tags import LATEST
from nixery.web.auth import OPEN, Auth
from nixery.web.forms import shorten
from nixery.web.pages.build_page import BuildView, build_page
from nixery.web.pages.image_page import ImageView, image_page, image_text
from nixery.web.pages.page import Page, prefers_html, secure, send_page, send_static
from nixery.web.pages.start_page import Start, Wish, start_page, start_text

_START = "What there is begins at the start page."
_RECENT = 10
_COMPARED = 50  # images whose layers are compared
_PATIENCE = 3.0  # seconds that a page waits for the package source


class PagesApi:
    """Answers what a person asks for, by GET and HEAD."""

    app = Klein()
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False

    def __init__(
        self,
        clock: IReactorTime,
        builder: IBuilder,
        history: History | None,
        logs: bool,
        auth: Auth = OPEN,
        example: Callable[[], str] = lambda: USUAL,
    ) -> None:
        """
        :param history: the builds that are shown; none where none are to be.
        :param logs: whether what packages print is shown.
        :param auth: says which images a client may see.
        :param example: names an image that can be pulled.
        """
        self._auth = auth
        self._example = example
        self._clock = clock
        self._builder = builder
        self._history = history
        self._logs = logs
        self._turns = FairTurns(clock)

    @app.route("/")
    @until_left
    async def start(self, request: Request) -> None:
        """The pull to type, and what is served."""
        provenance = await self._provenance()
        async with self._turns.turn(network_of(client_of(request))):
            body = await self._start(request, *provenance)
        await send_body(request, body)

    @app.route("/images/<path:name>")
    @until_left
    async def image(self, request: Request, name: str) -> None:
        """What an image holds that was made here."""
        async with self._turns.turn(network_of(client_of(request))):
            body = await self._image(request, name)
        await send_body(request, body)

    @app.route("/builds/<string:id>")
    @until_left
    async def build(self, request: Request, id: str) -> None:
        """How far a build has come."""
        async with self._turns.turn(network_of(client_of(request))):
            body = await self._build(request, id)
        await send_body(request, body)

    @app.route("/static/<string:digest>/<string:name>")
    async def static(self, request: Request, digest: str, name: str) -> bytes:
        """Style and scripts."""
        content = send_static(request, name)
        if content is None:
            return await _lost(request, "There is no such file here", _START)
        return content

    # Klein's annotation wants a handler for any IRequest; it is handed what twisted.web made.
    @app.handle_errors(Exception)  # type: ignore[arg-type]
    async def failed(self, request: Request, failure: Failure) -> bytes | None:
        """Answer a request that something was wrong with."""
        match failure.value:
            case NixeryError() as error:
                request.setHeader(b"Retry-After", b"%d" % RETRY_AFTER)
                return await _lost(request, "This can't be shown now", f"{error.public()}.", 503)
            case HTTPException():
                return await _lost(request, "There is nothing at this address", _START)
            case _:
                log_fault(request, failure)
                text = "It was logged; the operator can say more."
                return await _lost(request, "Something went wrong here", text, 500)

    async def _start(self, request: Request, provenance: Provenance | None, fault: str) -> bytes:
        going = () if self._history is None else self._history.running()
        running = list(islice(self._seen(request, going), _RECENT))
        images = []
        for head in list(islice(self._images(request), _RECENT)):
            if manifest := await self._manifest(head):
                images.append((head, sum(blob.size for blob in manifest.blobs)))
        wish = _wish(request)
        host, example = host_of(request), self._example()
        start = Start(host, provenance, fault, running, images, example, wish)
        if prefers_html(request):
            return await send_page(request, start_page(start))
        return _text(request, start_text(start))

    async def _image(self, request: Request, name: str) -> bytes:
        named = () if self._history is None else map(self._history.latest, *_spellings(name))
        for head in self._seen(request, [head for head in named if head is not None]):
            if manifest := await self._manifest(head):
                break
        else:
            return await _lost(
                request,
                "This image is not known here",
                "It was not made in the time that builds are remembered for. Pull it, and it is.",
            )
        assert self._history is not None
        _, details = await self._history.in_full(head)
        others = await self._others(self._images(request), head)
        view = ImageView(host_of(request), head, manifest, details, others)
        if prefers_html(request):
            return await send_page(request, image_page(view))
        return _text(request, image_text(view))

    async def _build(self, request: Request, id: str) -> bytes:
        head = self._history.head(id) if self._history is not None else None
        if head is None or self._history is None or not self._sees(request, head):
            text = "It never was, or is remembered no more. The start page lists those that are."
            return await _lost(request, "This build is not known here", text)
        head, details = await self._history.in_full(head)
        head = head if self._logs else attrs.evolve(head, error=shorten(head.error))
        view = BuildView(host_of(request), head, details, self._logs)
        return await send_page(request, build_page(view))

    def _images(self, request: Request) -> Iterator[BuildHead]:
        """The latest build of each image that was made, and that whoever asks may see."""
        known = set()
        for head in () if self._history is None else self._history.heads():
            if head.state == "done" and (head.name, head.tag) not in known:
                known.add((head.name, head.tag))
                if self._sees(request, head):
                    yield head

    def _seen(self, request: Request, heads: Iterable[BuildHead]) -> Iterator[BuildHead]:
        """The builds that whoever asks may see: no more of them are looked at than are taken."""
        return (head for head in heads if self._sees(request, head))

    def _sees(self, request: Request, head: BuildHead) -> bool:
        return self._auth.may_see(request, head.name, head.tag)

    async def _provenance(self) -> tuple[Provenance | None, str]:
        """What ``latest`` is, or why that is unknown."""
        asking = Deferred.fromCoroutine(self._builder.provenance())
        try:
            return await asking.addTimeout(_PATIENCE, self._clock), ""
        except NixeryError as error:
            return None, str(error.public())
        except TimeoutError:
            return None, "it does not answer"

    async def _manifest(self, head: BuildHead) -> Manifest | None:
        try:
            digest = Digest.parse(head.digest or "")
            return (await self._builder.stored_manifest(digest)).manifest
        except NixeryError:
            return None

    async def _others(self, heads: Iterable[BuildHead], own: BuildHead) -> dict[str, int]:
        """In how many recent images besides one each layer is."""
        digests: dict[str | None, BuildHead] = {}
        for head in heads:
            if head.digest != own.digest:
                digests[head.digest] = head
            if len(digests) == _COMPARED:
                break
        counts: Counter[str] = Counter()
        for head in digests.values():
            if manifest := await self._manifest(head):
                counts.update({str(blob.digest) for blob in manifest.blobs[1:]})
        return dict(counts)


def _spellings(name: str) -> tuple[list[str], list[str]]:
    """The names that an image may be known by, the likeliest first, and the tag of each.

    The packages may be in any order, and ``library/NAME`` is ``NAME`` for most sets.
    """
    path, _, tag = name.partition(":")
    try:
        image = parse_image(path, tag or LATEST)
    except (NameInvalid, TagInvalid):
        return [], []
    # A set that has something named ``library`` is asked for two packages.
    both = [attrs.evolve(image, prefixed=False), image.official]
    images = [each for each in both if each is not None]
    return [each.name for each in images], [each.tag for each in images]


def _wish(request: Request) -> Wish:
    """What a form without scripts was filled with."""
    query = parse_qs(urlsplit(request.uri.decode("latin-1")).query)
    first = {name: values[0] for name, values in query.items()}
    return Wish(
        first.get("packages", ""), "shell" in first, "arm64" in first, first.get("tag", LATEST)
    )


def _text(request: Request, text: str, status: int = 200) -> bytes:
    body = text.encode("utf-8", "replace")
    request.setResponseCode(status)
    secure(request, b"text/plain; charset=utf-8")
    request.setHeader(b"Content-Length", b"%d" % len(body))
    return body


async def _lost(request: Request, title: str, text: str, status: int = 404) -> bytes:
    if not prefers_html(request):
        return _text(request, fill(f"{title}. {text}", 80) + "\n", status)
    link = tags.p(tags.a("To the start page", href="/"))
    return await send_page(request, Page(title, [tags.h1(title), tags.p(text), link]), status)
