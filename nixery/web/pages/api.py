"""Pages for people: in a browser as HTML, in a terminal as text."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from textwrap import fill

import attrs
from klein import Klein
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IReactorTime
from twisted.web.template import tags

from nixery.history.history import History
from nixery.history.summary import BuildHead
from nixery.http.answers import NOT_FOUND, RETRY_AFTER, RefusedRequest
from nixery.http.fair import FairTurns
from nixery.http.gate import send_body
from nixery.http.request import RegistryRequest
from nixery.http.routes import Errors, Route
from nixery.interfaces import IBuilder, Provenance
from nixery.model.digest import Digest
from nixery.model.errors import NixeryError
from nixery.model.example import USUAL
from nixery.model.image import parse_image
from nixery.model.manifest import Manifest
from nixery.model.request_errors import NameInvalid, TagInvalid
from nixery.model.tags import LATEST
from nixery.web.auth import OPEN, Auth
from nixery.web.pages.image_page import ImageView, image_page, image_text
from nixery.web.pages.page import Page, prefers_html, send_page, send_static, send_text
from nixery.web.pages.start_page import Start, Wish, start_page, start_text

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
        auth: Auth = OPEN,
        example: Callable[[], str] = lambda: USUAL,
    ) -> None:
        """
        :param history: the builds that are shown; none to show none.
        :param auth: says which images a client may see.
        :param example: names an image that can be pulled.
        """
        self._auth = auth
        self._example = example
        self._clock = clock
        self._builder = builder
        self._history = history
        self._turns = FairTurns(clock)

    @app.route("/", endpoint=Route(errors=Errors.PAGE))
    async def start(self, request: RegistryRequest) -> None:
        """The pull to type, and what is served."""
        provenance = await self._provenance()
        async with self._turns.turn(request.network):
            body = await self._start(request, *provenance)
        await send_body(request, body)

    @app.route("/images/<path:name>", endpoint=Route(errors=Errors.PAGE))
    async def image(self, request: RegistryRequest, name: str) -> None:
        """The contents of an image that was made here."""
        async with self._turns.turn(request.network):
            body = await self._image(request, name)
        await send_body(request, body)

    @app.route("/static/<string:digest>/<string:name>", endpoint=Route(errors=Errors.PAGE))
    def static(self, request: RegistryRequest, digest: str, name: str) -> bytes:
        """Style and scripts."""
        content = send_static(request, name)
        if content is None:
            raise _lost("There is no such file here", "See the start page for what is served.")
        return content

    async def show_error(self, request: RegistryRequest, error: Exception) -> bytes:
        """Answer with the page of an error."""
        match error:
            case NixeryError():
                request.setHeader(b"Retry-After", b"%d" % RETRY_AFTER)
                title, text, status = "This can't be shown now", f"{error.public()}.", 503
            case RefusedRequest():
                (title, text), status = error.page, error.kind.status
            case _:
                title, status = "Something went wrong here", 500
                text = "The details are in the registry's log."
        if not prefers_html(request):
            return send_text(request, fill(f"{title}. {text}", 80) + "\n", status)
        link = tags.p(tags.a("To the start page", href="/"))
        return await send_page(request, Page(title, [tags.h1(title), tags.p(text), link]), status)

    async def _start(
        self, request: RegistryRequest, provenance: Provenance | None, fault: str
    ) -> bytes:
        going = () if self._history is None else self._history.running()
        running = list(islice(self._seen(request, going), _RECENT))
        images = []
        for head in list(islice(self._images(request), _RECENT)):
            if manifest := await self._manifest(head):
                images.append((head, sum(blob.size for blob in manifest.blobs)))
        wish = _wish(request)
        host, example = request.asked_host, self._example()
        start = Start(host, provenance, fault, running, images, example, wish)
        if prefers_html(request):
            return await send_page(request, start_page(start))
        return send_text(request, start_text(start))

    async def _image(self, request: RegistryRequest, name: str) -> bytes:
        named = () if self._history is None else map(self._history.latest, *_spellings(name))
        for head in self._seen(request, [head for head in named if head is not None]):
            if manifest := await self._manifest(head):
                break
        else:
            raise _lost(
                "This image is not known here",
                "No build of it is remembered. Pull it, and its page is here.",
            )
        assert self._history is not None
        _, details = await self._history.in_full(head)
        others = await self._others(self._images(request), head)
        view = ImageView(request.asked_host, head, manifest, details, others)
        if prefers_html(request):
            return await send_page(request, image_page(view))
        return send_text(request, image_text(view))

    def _images(self, request: RegistryRequest) -> Iterator[BuildHead]:
        """The latest build of each image that was made, and that whoever asks may see."""
        return self._seen(request, () if self._history is None else self._history.images())

    def _seen(self, request: RegistryRequest, heads: Iterable[BuildHead]) -> Iterator[BuildHead]:
        """The builds that the client may see: no more of them are looked at than are taken."""
        return (head for head in heads if self._sees(request, head))

    def _sees(self, request: RegistryRequest, head: BuildHead) -> bool:
        return self._auth.may_see(request, head.name, head.tag)

    async def _provenance(self) -> tuple[Provenance | None, str]:
        """The source of ``latest``, or why it is unknown."""
        asking = Deferred.fromCoroutine(self._builder.provenance())
        try:
            return await asking.addTimeout(_PATIENCE, self._clock), ""
        except NixeryError as error:
            return None, str(error.public())
        except TimeoutError:
            return None, "it does not respond"

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
    names = [known for each in both if each is not None for known in each.names]
    return names, [image.tag] * len(names)


def _wish(request: RegistryRequest) -> Wish:
    """The contents of a form that was sent without scripts."""
    shell, arm64 = (request.parameter(name) != "" for name in ("shell", "arm64"))
    return Wish(request.parameter("packages"), shell, arm64, request.parameter("tag") or LATEST)


def _lost(title: str, text: str) -> RefusedRequest:
    return RefusedRequest(NOT_FOUND, title, page=(title, text))
