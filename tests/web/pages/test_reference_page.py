"""The page of an OpenAPI document."""

import json
from types import SimpleNamespace
from typing import Any

import pytest_twisted
from twisted.web.template import flattenString, tags

from nixery.web.pages.page import STATIC, written
from nixery.web.pages.reference_page import reference_page
from tests.web.pages.browsing import EVIL, Elements, page
from tests.web.server import serving
from tests.web.test_openapi import DOCUMENT as WHOLE

DOCUMENT: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {"title": "Nixery", "version": "1", "description": "For `programs`.\n\nMore."},
    "tags": [{"name": "images", "description": "What is stored."}],
    "paths": {
        "/api/images/{name}": {
            "parameters": [{"$ref": "#/components/parameters/name"}],
            "delete": {
                "tags": ["images"],
                "summary": f"Remove {EVIL}",
                "responses": {
                    "default": {"description": "An error, as everywhere."},
                    "204": {"description": "It is gone."},
                    "409": {
                        "description": "Not now.",
                        "content": {
                            "application/json": {
                                "schema": {
                                    "type": "object",
                                    "properties": {"until": {"type": "number"}},
                                }
                            }
                        },
                    },
                },
            },
        },
        "/api/images": {
            "get": {
                "tags": ["images"],
                "summary": "List images.",
                "parameters": [
                    {"name": "n", "in": "query", "schema": {"type": "integer", "format": "int32"}},
                    {"name": "order", "in": "query", "schema": {"enum": ["made", "pulled"]}},
                ],
                "responses": {
                    "200": {
                        "description": "The `images`.",
                        "content": {
                            "application/json": {
                                "schema": {
                                    "type": "array",
                                    "items": {"$ref": "#/components/schemas/Image"},
                                }
                            }
                        },
                    },
                    "400": {"$ref": "#/components/responses/Refused"},
                },
            },
        },
        "/other": {"get": {"summary": "Something else.", "responses": {}}},
    },
    "components": {
        "parameters": {
            "name": {"name": "name", "in": "path", "required": True, "description": "x"}
        },
        "responses": {"Refused": {"description": "It is refused."}},
        "schemas": {
            "Image": {
                "description": "An image.",
                "properties": {
                    "digest": {"type": "string", "description": "Of its manifest."},
                    "made": {"anyOf": [{"type": "number"}, {"type": "null"}]},
                    "tags": {"type": ["array", "null"]},
                },
            }
        },
    },
}


def test_a_document() -> None:
    """All operations, parameters, answers and schemas are there; references are followed, schemas
    linked; what a document says is text."""
    page = reference_page(DOCUMENT, "/api/openapi.json")
    parts: list[bytes] = []
    flattenString(None, tags.div(*[each for each in page.body if each])).addCallback(parts.append)
    elements = Elements(parts[0].decode())
    for text in (
        *(
            "Nixery API",
            "For programs.",
            "More.",
            "What is stored.",
            "DELETE /api/images/{name}",
        ),
        *(
            "path, required",
            "untilnumber",
            "It is gone.",
            "GET /api/images",
            "integer (int32)",
            "made, pulled",
        ),
        *("The images.", "application/json array of Image", "It is refused.", "An image."),
        *("Of its manifest.", "number or null", "array or null", "Others", "Something else."),
        "<script>alert(1)</script>",
    ):
        assert text in elements.text, text
    assert "as everywhere" not in elements.text
    assert [each["href"] for each in elements.of("a")] == ["/api/openapi.json", "#schema-Image"]
    assert "schema-Image" in [each.get("id") for each in elements.of("section")]


def test_it_is_small() -> None:
    """The page of all that a registry can have is less than 60 KB with its style."""
    request: Any = SimpleNamespace(path=b"/api", shows_builds=True)
    content = written(request, reference_page(WHOLE, "/api/openapi.json"))
    assert len(content) + len(STATIC["style.css"].content) < 60_000


@pytest_twisted.ensureDeferred
async def test_the_api_of_this_registry() -> None:
    """All paths of the OpenAPI document that programs get are on the page."""
    async with serving() as server:
        document = json.loads((await server.ask("/api/openapi.json")).body)
        shown = await page(server, "/api")
        assert {"/api", "/v2/", "/api/openapi.json"} <= set(document["paths"])
        for path, item in document["paths"].items():
            for method in item.keys() - {"parameters"}:
                assert f"{method.upper()} {path}" in shown.text
