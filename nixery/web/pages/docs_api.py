"""The documentation: ``/docs``, ``/docs/NAME``."""

from collections.abc import Callable
from functools import cached_property
from importlib.resources import files

from klein import Klein

from nixery.http.answers import NOT_FOUND, RefusedRequest
from nixery.http.request import RegistryRequest
from nixery.http.routes import Errors, Route
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

    def __init__(self, folder: str | None = None) -> None:
        """
        :param folder: of the documents; those of this Nixery if none is given.
        """
        self._folder = folder or find_documentation(str(files("nixery")))
        self._pages: dict[str, bytes] = {}

    @cached_property
    def _documents(self) -> dict[str, DocsPage]:
        """The documents by name: some files of a few kilobytes, read once."""
        return read_documentation(self._folder)

    @app.route("/docs", endpoint=Route(errors=Errors.PAGE))
    def index(self, request: RegistryRequest) -> bytes:
        """The list of documents."""
        if prefers_html(request):
            return self._page(request, "", lambda: index_page(self._documents))
        lines = [f"/docs/{each.name:12} {each.title}\n" for each in self._documents.values()]
        return send_text(request, "".join(lines))

    @app.route("/docs/<string:name>", endpoint=Route(errors=Errors.PAGE))
    def document(self, request: RegistryRequest, name: str) -> bytes:
        """A document."""
        document = self._documents.get(name)
        if document is None:
            title, text = "There is no such document here", "The documentation lists all of them."
            raise RefusedRequest(NOT_FOUND, title, page=(title, text))
        if not prefers_html(request):
            return send_text(request, document.text)
        return self._page(request, name, lambda: document_page(document, self._documents))

    def _page(self, request: RegistryRequest, name: str, make: Callable[[], Page]) -> bytes:
        """A page, which is the same for everybody, and written once."""
        if name not in self._pages:
            self._pages[name] = written(request, make())
        return describe_page(request, self._pages[name])
