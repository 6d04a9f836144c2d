"""``/api``: the API's OpenAPI document as a page."""

from collections.abc import Callable, Mapping
from typing import Any

from klein import Klein

from nixery.http.operation import HTML, text_answers
from nixery.http.request import RegistryRequest
from nixery.http.routes import Errors, Route
from nixery.web.pages.page import describe_page, written
from nixery.web.pages.reference_page import reference_page

_DOCUMENT = "/api/openapi.json"


class ReferenceApi:
    """Answers ``/api``, for GET and HEAD."""

    app = Klein()

    def __init__(self, document: Callable[[], Mapping[str, Any]]) -> None:
        """
        :param document: makes the OpenAPI document.
        """
        self._document = document
        self._page = b""

    @app.route("/api", endpoint=Route(errors=Errors.PAGE, operations=text_answers(HTML)))
    def reference(self, request: RegistryRequest) -> bytes:
        """The API reference, as a page."""
        self._page = self._page or written(request, reference_page(self._document(), _DOCUMENT))
        return describe_page(request, self._page)
