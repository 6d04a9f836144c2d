"""``/api/openapi.json``: the routes as OpenAPI 3.1 describes them, made from the routes.

https://spec.openapis.org/oas/v3.1.1.html
"""

import inspect
import json
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from klein import Klein

from nixery.http.answers import describe
from nixery.http.operation import HTML, JSON, Answers, Operation, text_answers
from nixery.http.request import RegistryRequest
from nixery.http.routes import Errors, Route
from nixery.model.json_schema import array_of, object_of
from nixery.requirements import version

_VARIABLE = re.compile(r"<(?:\w+:)?(\w+)>")
_ROLE = re.compile(r":\w+:`~?([^`]*)`")
_TEXT = {"type": "string"}
_ERROR = object_of(errors=array_of(object_of(code=_TEXT, message=_TEXT, detail={})))
_TAGS = {
    "manifest": "registry",
    "blob": "registry",
    "registry": "registry",
    "operations": "health and metrics",
    "page": "pages and builds",
}
_ABOUT = {
    "registry": "The OCI distribution API, by which clients pull images.",
    "operators": "For operators, who send a bearer token of their own.",
    "pages and builds": "For people in a browser or a terminal, and for programs that follow "
    "builds or search for packages.",
    "health and metrics": "For what watches the registry.",
}
"""The groups of operations, in their order."""
_PAGE = text_answers(HTML, "text/plain")
_DOCUMENT = {b"GET": Operation({200: Answers("The document.", {"type": "object"})})}


class OpenApi:
    """Answers ``/api/openapi.json``."""

    app = Klein()

    def __init__(self, apps: Iterable[Klein]) -> None:
        """
        :param apps: those that are described, besides itself.
        """
        self._apps = [*apps, self.app]
        self._content = b""

    @app.route("/api/openapi.json", endpoint=Route(operations=_DOCUMENT))
    def openapi(self, request: RegistryRequest) -> bytes:
        """The OpenAPI document of this API."""
        self._content = self._content or json.dumps(openapi_document(self._apps)).encode("ascii")
        request.setHeader(b"Cache-Control", b"max-age=60")
        return describe(request, JSON, self._content)


def openapi_document(apps: Iterable[Klein]) -> dict[str, Any]:
    """The OpenAPI document of some apps."""
    paths: dict[str, dict[str, Any]] = {}
    for app in apps:
        for path, route, handler in _routes(app):
            paths.setdefault(path, {}).update(_path_item(path, route, handler))
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Nixery",
            "version": version(),
            "description": "A container registry whose images are made on demand. HEAD is answered "
            "like GET, without a body. Variables in paths may contain slashes.\n\n"
            "Errors have the form of the schema `Error`; those of pages are pages.",
            "license": {"name": "Apache 2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": about} for name, about in _ABOUT.items()],
        "paths": dict(sorted(paths.items())),
        "components": {
            "schemas": {"Error": _ERROR},
            "securitySchemes": {
                "operator": {"type": "http", "scheme": "bearer"},
                "client": {"type": "http", "scheme": "basic"},
                "token": {"type": "http", "scheme": "bearer"},
            },
        },
    }


def _routes(app: Klein) -> Iterator[tuple[str, Route, Callable[..., Any]]]:
    for rule in app.url_map.iter_rules():
        route: Any = rule.endpoint
        yield _VARIABLE.sub(r"{\1}", rule.rule), route, app.endpoints[route]


def _path_item(path: str, route: Route, handler: Callable[..., Any]) -> dict[str, Any]:
    variables = re.findall(r"{(\w+)}", path)
    item: dict[str, Any] = {
        method.decode("ascii").lower(): _operation(path, method, route, handler)
        for method in route.methods
        if method != b"HEAD"
    }
    if variables:
        item["parameters"] = [
            {"name": each, "in": "path", "required": True, "schema": _TEXT} for each in variables
        ]
    return item


def _operation(path: str, method: bytes, route: Route, handler: Callable[..., Any]) -> Any:
    said = (route.operations or _PAGE)[method]
    text = said.text or _plain(inspect.getdoc(handler) or "")
    words = re.findall(r"\w+", f"{method.decode('ascii').lower()} {path}")
    operation: dict[str, Any] = {
        "operationId": "_".join(words),
        "summary": text.partition("\n\n")[0].rstrip("."),
        "tags": ["operators"] if route.operator else [_TAGS[route.kind]],
        "responses": {str(status): _answer(each) for status, each in said.answers.items()},
        "security": _security(route),
    }
    if said.query:
        operation["parameters"] = [
            {"name": name, "in": "query", "description": meaning, "schema": _TEXT}
            for name, meaning in said.query.items()
        ]
    if said.body is not None:
        body = {"required": True, "content": {JSON: {"schema": said.body}}}
        operation["requestBody"] = body
    if route.errors is not Errors.PAGE and not route.probe:
        error = {JSON: {"schema": {"$ref": "#/components/schemas/Error"}}}
        operation["responses"]["default"] = {"description": "An error.", "content": error}
    return operation


def _answer(answers: Answers) -> dict[str, Any]:
    described: dict[str, Any] = {"description": answers.text}
    if answers.media_type:
        others = {each: {"schema": _TEXT} for each in answers.others}
        described["content"] = {answers.media_type: {"schema": answers.schema}, **others}
    return described


def _security(route: Route) -> list[dict[str, list[str]]]:
    if route.operator:
        return [{"operator": []}]
    return [{}] if route.probe else [{}, {"client": []}, {"token": []}]


def _plain(docstring: str) -> str:
    """A docstring without the marks of its markup."""
    return " ".join(_ROLE.sub(r"\1", docstring).replace("``", "").split())
