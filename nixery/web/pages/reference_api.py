"""``/api``: the API's OpenAPI document as a page."""

from collections.abc import Callable, Mapping
from typing import Any

from klein import Klein

from nixery.http.operation import HTML, text_answers
from nixery.http.request import RegistryRequest
from nixery.http.routes import Errors, Route
from nixery.reactor import IReactor, in_thread
from nixery.web.pages.page import describe_page, written
from nixery.web.pages.reference_page import reference_page

_DOCUMENT = "/api/openapi.json"


class ReferenceApi:
    """Answers ``/api``, for GET and HEAD."""

    app = Klein()

    def __init__(self, reactor: IReactor, document: Callable[[], Mapping[str, Any]]) -> None:
        """
        :param document: makes the OpenAPI document.
        """
        self._reactor = reactor
        self._document = document
        self._page = b""

    @app.route("/api", endpoint=Route(errors=Errors.PAGE, operations=text_answers(HTML)))
    async def reference(self, request: RegistryRequest) -> bytes:
        """The API reference, as a page."""
        if not self._page:
            self._page = await in_thread(self._reactor, self._written, request)
        return describe_page(request, self._page)

    def _written(self, request: RegistryRequest) -> bytes:
        return written(request, reference_page(self._document(), _DOCUMENT))
