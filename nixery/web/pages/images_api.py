"""Pages of images: ``/images/NAME``, and ``/compare`` for two of them."""

import time

from klein import Klein

from nixery.history.history import History
from nixery.http.answers import RefusedRequest
from nixery.http.fair import FairTurns
from nixery.http.gate import send_body
from nixery.http.request import RegistryRequest
from nixery.http.routes import Errors, Route
from nixery.model.contents import LayerFacts
from nixery.model.digest import Digest
from nixery.model.text import readable
from nixery.reactor import IReactor, in_thread
from nixery.recent import Recent
from nixery.web.pages.closure_section import Closure, paths_text
from nixery.web.pages.compare_page import Comparison, Side, ask_page, compare_page, compare_text
from nixery.web.pages.image_page import ImageView, image_page, image_text
from nixery.web.pages.layers_section import Sharing, layers_text
from nixery.web.pages.page import prefers_html, send_large_page, send_page, send_text
from nixery.web.stored_images import StoredImage, StoredImages

_COMPARED = 500  # images whose layers are compared
_REMEMBERED = 40_000  # store paths of closures that are in memory


class ImagePages:
    """Answers what is asked about images, by GET and HEAD."""

    app = Klein()
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False

    def __init__(
        self,
        reactor: IReactor,
        images: StoredImages,
        history: History | None = None,
        signed: bool = False,
    ) -> None:
        """
        :param history: of builds, which pages lead to; none to show none.
        :param signed: whether images are signed.
        """
        self._reactor = reactor
        self._images = images
        self._history = history
        self._signed = signed
        self._turns = FairTurns(reactor, share=0.3)  # most of it is in threads
        self._closures: Recent[Digest, Closure] = Recent(
            time.monotonic, _REMEMBERED, lambda closure: len(closure.largest)
        )

    @app.route("/images/<path:name>", endpoint=Route(errors=Errors.PAGE))
    async def image(self, request: RegistryRequest, name: str) -> None:
        """What an image is, how to use it, and what is in it."""
        async with self._turns.turn(request.network):
            body = await self._image(request, name)
        await send_body(request, body)

    @app.route("/compare", endpoint=Route(errors=Errors.PAGE))
    async def compare(self, request: RegistryRequest) -> None:
        """What differs between the images that ``from`` and ``to`` name."""
        async with self._turns.turn(request.network):
            body = await self._compare(request)
        await send_body(request, body)

    async def _image(self, request: RegistryRequest, name: str) -> bytes:
        summary, tag = await self._images.find(request, name)
        image = await self._images.load(summary, tag, request.parameter("platform"))
        closure = await self._closure(image)
        match request.parameter("show"):
            case "paths" if closure is not None:
                return send_text(request, await in_thread(self._reactor, paths_text, closure))
            case "layers":
                layers = image.manifest.blobs[1:]
                return send_text(
                    request, await in_thread(self._reactor, layers_text, layers, image.contents)
                )
        recent, own = await self._images.recent(request, _COMPARED), str(image.manifest.digest)
        build = self._history and self._history.latest(summary.name, image.tag or summary.tag)
        tags = await self._images.tags(request, summary.name)
        why = request.parameter("why")[:300]

        def view() -> ImageView:
            return ImageView(
                request.asked_host,
                request.origin.startswith("http:"),
                image,
                closure,
                Sharing.of(image.manifest.blobs[1:], image.digests, recent),
                tags,
                build.id if build and build.digest in (summary.digest, own) else "",
                why,
                self._signed,
            )

        if prefers_html(request):
            return await send_large_page(request, self._reactor, lambda: image_page(view()))
        return send_text(request, await in_thread(self._reactor, lambda: image_text(view())))

    async def _compare(self, request: RegistryRequest) -> bytes:
        before, after = (request.parameter(name).strip()[:600] for name in ("from", "to"))
        if not before or not after:
            return send_page(request, ask_page(before, after))
        platform, found = request.parameter("platform"), []
        for name in (before, after):
            try:
                found.append(await self._images.find(request, name))
            except RefusedRequest:
                fault = f"No stored image is called {name}."
                if prefers_html(request):
                    return send_page(request, ask_page(before, after, fault), 404)
                return send_text(request, f"{readable(fault)}\n", 404)
        images = [await self._images.load(*each, platform) for each in found]
        common = [each for each in images[0].every_platform if each in images[1].every_platform]
        if common and not platform and images[0].system != images[1].system:
            images = [await self._images.load(*each, common[0]) for each in found]
        one, other = map(_side, images)
        comparison = await in_thread(self._reactor, Comparison.of, one, other, common)
        if prefers_html(request):
            return await send_large_page(request, self._reactor, lambda: compare_page(comparison))
        return send_text(request, await in_thread(self._reactor, compare_text, comparison))

    async def _closure(self, image: StoredImage) -> Closure | None:
        """The closure of an image, as far as it is known."""
        digest = image.manifest.digest
        known = self._closures.get(digest)
        if known is None and image.contents is not None:
            known = await in_thread(self._reactor, Closure.of, image.contents)
            self._closures.put(digest, known)
        return known


def _side(image: StoredImage) -> Side:
    layers = [LayerFacts(str(blob.digest), blob.size) for blob in image.manifest.blobs[1:]]
    return Side(image.label, image.contents, layers, image.system, image.platform)
