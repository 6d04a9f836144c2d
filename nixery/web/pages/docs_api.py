"""The documentation: ``/docs``, ``/docs/NAME``."""

from collections.abc import Callable
from importlib.resources import files

from klein import Klein

from nixery.http.answers import NOT_FOUND, RefusedRequest
from nixery.http.request import RegistryRequest
from nixery.http.routes import Errors, Route
from nixery.reactor import IReactor, in_thread
from nixery.web.pages.documentation import (
    DocsPage,
    document_page,
    find_documentation,
    index_page,
    read_documentation,
)
from nixery.web.pages.page import Page, describe_page, prefers_html, send_text, written


class DocsApi:
    """Answers ``/docs``, for GET and HEAD: in a browser with pages, in a terminal with text."""

    app = Klein()
    app.url_map.strict_slashes = False

    def __init__(self, reactor: IReactor, folder: str | None = None) -> None:
        """
        :param folder: of the documents; those of this Nixery if none is given.
        """
        self._reactor = reactor
        self._folder = folder or find_documentation(str(files("nixery")))
        self._documents: dict[str, DocsPage] = {}
        self._pages: dict[str, bytes] = {}

    async def _all(self) -> dict[str, DocsPage]:
        """The documents by name, read once."""
        if not self._documents:
            self._documents = await in_thread(self._reactor, read_documentation, self._folder)
        return self._documents

    @app.route("/docs", endpoint=Route(errors=Errors.PAGE))
    async def index(self, request: RegistryRequest) -> bytes:
        """The list of documents."""
        documents = await self._all()
        if prefers_html(request):
            return await self._page(request, "", lambda: index_page(documents))
        lines = [f"/docs/{each.name:12} {each.title}\n" for each in documents.values()]
        return send_text(request, "".join(lines))

    @app.route("/docs/<string:name>", endpoint=Route(errors=Errors.PAGE))
    async def document(self, request: RegistryRequest, name: str) -> bytes:
        """A document."""
        documents = await self._all()
        document = documents.get(name)
        if document is None:
            title, text = "There is no such document here", "The documentation lists all of them."
            raise RefusedRequest(NOT_FOUND, title, page=(title, text))
        if not prefers_html(request):
            return send_text(request, document.text)
        return await self._page(request, name, lambda: document_page(document, documents))

    async def _page(self, request: RegistryRequest, name: str, make: Callable[[], Page]) -> bytes:
        """A page, which is the same for everybody, and written once."""
        if name not in self._pages:
            page = in_thread(self._reactor, lambda: written(request, make()))
            self._pages[name] = await page
        return describe_page(request, self._pages[name])
