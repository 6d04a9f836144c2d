"""The page of the API: an OpenAPI document, for people."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from twisted.web.template import Tag, tags

from nixery.web.pages.fragments import breakable, facts, table
from nixery.web.pages.page import Content, Page

_METHODS = ("get", "head", "post", "put", "patch", "delete")
_SCHEMAS = "#/components/schemas/"


def reference_page(document: Mapping[str, Any], address: str) -> Page:
    """The page for browsers.

    :param document: OpenAPI 3, https://spec.openapis.org/oas/v3.1.0. Its operations have one
        default answer, if any, of which its description tells.
    :param address: the path of the document.
    """
    info = document["info"]
    link = tags.p(tags.a("OpenAPI document", href=address))
    lead = [*_paragraphs(info.get("description", "")), link]
    body: list[Content] = [tags.h1(f"{info['title']} API"), *lead]
    for title, about, operations in _groups(document):
        body.append(tags.h2(title[0].upper() + title[1:]))
        body += _paragraphs(about)
        for path, method, operation in operations:
            body.append(_operation(document, path, method, operation))
    schemas = document.get("components", {}).get("schemas", {})
    if schemas:
        body.append(tags.h2("Schemas"))
        body += [_schema(document, name, schema) for name, schema in schemas.items()]
    return Page(f"{info['title']} API", body)


def _paragraphs(text: str) -> list[Tag]:
    return [tags.p(*_marked(part)) for part in text.strip().split("\n\n") if part]


def _marked(text: str) -> Iterator[Tag | str]:
    """A text in which what stands between backticks is code."""
    for number, part in enumerate(text.split("`")):
        yield tags.code(part) if number % 2 else part


def _groups(
    document: Mapping[str, Any],
) -> Iterator[tuple[str, str, list[tuple[str, str, Mapping[str, Any]]]]]:
    """The operations by their first tag, in the order of the document's tags."""
    every = [
        (path, method, item[method])
        for path, item in document["paths"].items()
        for method in _METHODS
        if method in item
    ]
    about = {each["name"]: each.get("description", "") for each in document.get("tags", [])}
    first = [(operation.get("tags") or [""])[0] for _, _, operation in every]
    for name in dict.fromkeys([*about, *first]):
        operations = [each for each, of in zip(every, first, strict=True) if of == name]
        if operations:
            yield name or "Others", about.get(name, ""), operations


def _operation(
    document: Mapping[str, Any], path: str, method: str, operation: Mapping[str, Any]
) -> Tag:
    heading = tags.h3(tags.span(method.upper(), class_="method"), " ", tags.code(*breakable(path)))
    parts: list[Tag] = [heading]
    parts += _paragraphs(operation.get("summary", ""))
    parts += _paragraphs(operation.get("description", ""))
    what = f"{method.upper()} {path}"
    shared = document["paths"][path].get("parameters", [])
    given = [_seen(document, each) for each in (*shared, *operation.get("parameters", []))]
    if any("description" in each or each["in"] != "path" for each in given):
        rows = [_parameter(each) for each in given]
        parts.append(table(f"Parameters of {what}", ("Parameter", "In", "Type", "Meaning"), rows))
    if body := _seen(document, operation.get("requestBody", {})):
        parts.append(tags.p("Body: ", *_contents(body), class_="small"))
    answers = [
        (status, _seen(document, each))
        for status, each in operation.get("responses", {}).items()
        if status != "default"
    ]
    answered = [
        (
            tags.code(status),
            tags.span(*_marked(each.get("description", ""))),
            tags.span(*_contents(each)),
        )
        for status, each in answers
    ]
    parts.append(table(f"Answers of {what}", ("Status", "Meaning", "Body"), answered))
    return tags.section(*parts, class_="card operation")


def _parameter(given: Mapping[str, Any]) -> tuple[Tag, str, Tag, Tag]:
    return (
        tags.code(given["name"]),
        f"{given['in']}{', required' if given.get('required') else ''}",
        tags.span(*_type(given.get("schema", {}))),
        tags.span(*_marked(given.get("description", ""))),
    )


def _contents(message: Mapping[str, Any]) -> Sequence[Tag | str]:
    """The media types of a body, each with its schema."""
    parts: list[Tag | str] = []
    for media_type, content in message.get("content", {}).items():
        schema = content.get("schema", {})
        words = _type(schema)
        parts += [", " if parts else "", tags.code(media_type), *([" ", *words] if words else [])]
        if fields := schema.get("items", schema).get("properties"):
            named = facts((name, tags.span(*_type(of))) for name, of in fields.items())
            parts.append(tags.details(tags.summary("Fields"), named))
    return parts


def _schema(document: Mapping[str, Any], name: str, schema: Mapping[str, Any]) -> Tag:
    parts = [tags.h3(tags.code(name)), *_paragraphs(schema.get("description", ""))]
    properties = schema.get("properties", {})
    rows = [
        (
            tags.code(field),
            tags.span(*_type(of)),
            tags.span(*_marked(_seen(document, of).get("description", ""))),
        )
        for field, of in properties.items()
    ]
    if rows:
        parts.append(table(f"Fields of {name}", ("Field", "Type", "Meaning"), rows))
    return tags.section(*parts, class_="card", id=f"schema-{name}")


def _type(schema: Mapping[str, Any]) -> Sequence[Tag | str]:
    """The type of a value in words; a schema with a name is linked."""
    if "$ref" in schema:
        name = schema["$ref"].removeprefix(_SCHEMAS)
        return [tags.a(name, href=f"#schema-{name}")]
    for joined in ("anyOf", "oneOf", "allOf"):
        if joined in schema:
            parts = [part for each in schema[joined] for part in (" or ", *_type(each))]
            return parts[1:]
    if "enum" in schema:
        parts = [part for each in schema["enum"] for part in (", ", tags.code(str(each)))]
        return parts[1:]
    match schema.get("type", ""):
        case "array":
            return ["array of ", *_type(schema.get("items", {}))]
        case list() as types:
            return [" or ".join(types)]
        case str(text):
            return [f"{text} ({schema['format']})" if "format" in schema else text] if text else []
    return []


def _seen(document: Mapping[str, Any], value: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a reference within the document leads to, or the value itself."""
    while "$ref" in value:
        found: Any = document
        for step in value["$ref"].removeprefix("#/").split("/"):
            found = found[step]
        value = found
    return value
