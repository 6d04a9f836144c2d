"""The OpenAPI document, against the routes and their real answers."""

import importlib
import json
import pkgutil
import re
from pathlib import Path
from typing import Any

import pytest_twisted
from klein import Klein
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import validate
from twisted.internet import reactor as _reactor

import nixery.web
from nixery.history.history import History
from nixery.web.hooks import HooksApi
from nixery.web.openapi import OpenApi, openapi_document
from nixery.web.pages.page import STATIC
from tests.history.histories import begin, open_history
from tests.web.fake_catalogue import packages_api
from tests.web.server import Answer, serving
from tests.web.test_hooks import SECRET
from tests.web.test_images import OWN, Operated, operated

reactor: Any = _reactor

_HEADERS = {"Authorization": f"Bearer {SECRET}"}


def all_apps() -> list[Klein]:
    """All tables of routes in the modules that answer."""
    found: list[Klein] = []
    for module in pkgutil.walk_packages(nixery.web.__path__, "nixery.web."):
        classes = vars(importlib.import_module(module.name)).values()
        apps = (vars(each).get("app") for each in classes if isinstance(each, type))
        found += [each for each in apps if isinstance(each, Klein) and each not in found]
    return found


def paths_of(apps: list[Klein]) -> set[str]:
    """The paths of routes, without their variables' names."""
    rules = (rule.rule for app in apps for rule in app.url_map.iter_rules())
    return {re.sub("<[^>]*>", "{}", rule) for rule in rules}


DOCUMENT = openapi_document(all_apps())


def test_valid() -> None:
    """The document is one of OpenAPI 3.1."""
    validate(DOCUMENT)
    assert DOCUMENT["openapi"].startswith("3.1.")


def test_all_routes() -> None:
    """The document has each route, and no other; no two operations have one name."""
    assert {re.sub("{[^}]*}", "{}", path) for path in DOCUMENT["paths"]} == paths_of(all_apps())
    operations = [
        operation
        for item in DOCUMENT["paths"].values()
        for method, operation in item.items()
        if method != "parameters"
    ]
    names = [operation["operationId"] for operation in operations]
    assert len(names) == len(set(names))
    assert all(operation["summary"] for operation in operations)
    assert "`" not in json.dumps([operation["summary"] for operation in operations])


@pytest_twisted.ensureDeferred
async def test_served(tmp_path: Path) -> None:
    """Anybody gets the document of what this daemon serves."""
    async with operated(tmp_path) as registry:
        answer = await registry.server.ask("/api/openapi.json")
    document = json.loads(answer.body)
    validate(document)
    assert {"/v2/", "/api/images", "/api/openapi.json", "/healthz"} <= document["paths"].keys()
    assert OpenApi.app in all_apps()


@pytest_twisted.ensureDeferred
async def test_methods() -> None:
    """Each path answers the methods that the document names, and refuses others."""
    async with serving(apis=[HooksApi(lambda: SECRET, lambda: None)]) as server:
        answer = await server.ask("/api/openapi.json")
        for path, item in json.loads(answer.body)["paths"].items():
            for method in ("get", "post", "delete", "put"):
                real = re.sub("{[^}]*}", "x", path)
                answer = await server.ask(real, method.upper(), _HEADERS)
                assert (answer.status == 405) == (method not in item), (path, method)


def check(answer: Answer, path: str, method: str = "get") -> None:
    """Check that an answer is as the document says."""
    responses = DOCUMENT["paths"][path][method]["responses"]
    expected = responses.get(str(answer.status)) or responses["default"]
    if not expected.get("content"):
        assert answer.body == b""
        return
    media_type = answer.headers["content-type"].partition(";")[0]
    assert media_type in expected["content"]
    schema = {**expected["content"][media_type]["schema"], "components": DOCUMENT["components"]}
    OAS31Validator(schema).validate(json.loads(answer.body))


async def ask(registry: Operated, path: str, route: str, method: str = "GET") -> Answer:
    answer = await registry.server.ask(path, method, OWN)
    check(answer, route, method.lower())
    return answer


@pytest_twisted.ensureDeferred
async def test_answers_about_images(tmp_path: Path) -> None:
    """What operators are answered, good or bad, is what the document says."""
    one = "/api/images/{reference}"
    async with operated(tmp_path) as registry:
        manifest = await registry.make("git")
        assert (await ask(registry, "/api/images", "/api/images")).status == 200
        assert (await ask(registry, "/api/images/git:latest", one)).status == 200
        assert (await ask(registry, "/api/images/git:v1", one)).status == 404
        registry.server.builder.build = None
        check(await registry.warm(name="git"), "/api/images", "post")
        registry.server.builder.build = "0123"
        check(await registry.warm(name="git"), "/api/images", "post")
        check(await registry.warm(name="GIT"), "/api/images", "post")
        check(await registry.server.ask("/api/images"), "/api/images")
        check(await registry.server.post("/api/gc", b"", OWN), "/api/gc", "post")
        removed = await ask(registry, f"/api/images/{manifest.digest}", one, "DELETE")
        assert removed.status == 204
        assert (await ask(registry, "/api/images/git:latest", one, "DELETE")).status == 404


@pytest_twisted.ensureDeferred
async def test_answers_to_anybody(tmp_path: Path) -> None:
    """What all clients are answered is what the document says."""
    history = await open_history(tmp_path)
    record = begin(history, "git")
    packages = packages_api()
    async with serving(history=history, packages=packages) as server:
        for path, route in (
            ("/builds", "/builds"),
            (f"/builds/{record.id}", "/builds/{id}"),
            ("/builds/none", "/builds/{id}"),
            ("/packages?q=git", "/packages"),
            ("/packages?n=x", "/packages"),
            ("/v2/", "/v2/"),
            ("/v2/git/tags/list", "/v2/{name}/tags/list"),
            ("/v2/git/manifests/a!b", "/v2/{name}/manifests/{reference}"),
            ("/v2/git/manifests/latest", "/v2/{name}/manifests/{reference}"),
            (f"/v2/git/referrers/sha256:{'0' * 64}", "/v2/{name}/referrers/{digest}"),
        ):
            check(await server.ask(path), route)
    record.done("sha256:1")
    await history.stop()


@pytest_twisted.ensureDeferred
async def test_forms_of_answers(history: History) -> None:
    """Whatever is asked for comes in a form that the document names, in a browser and elsewhere;
    for pages that is HTML, and text where terminals have any use for it."""
    record = begin(history, "git")
    record.done("sha256:1")
    file = STATIC["page.js"]
    paths = {path: path for path in ("/", "/name", "/activity", "/api", "/docs", "/builds")}
    paths |= {path: path for path in ("/api/openapi.json", "/packages")}
    paths |= {"/docs/names": "/docs/{name}", f"/builds/{record.id}": "/builds/{id}"}
    paths |= {f"/static/{file.digest}/page.js": "/static/{digest}/{name}"}
    async with serving(history=history, packages=packages_api()) as server:
        for path, route in paths.items():
            forms = DOCUMENT["paths"][route]["get"]["responses"]["200"]["content"]
            assert "*/*" not in forms
            for accept in ("*/*", "text/html"):
                answer = await server.ask(path, headers={"Accept": accept})
                assert answer.status == 200
                assert answer.headers["content-type"].partition(";")[0] in forms, path
    whole = json.dumps(DOCUMENT)
    assert "*/*" not in whole
    named = {each["name"] for each in DOCUMENT["tags"]}
    operations = [o for item in DOCUMENT["paths"].values() for m, o in item.items() if len(m) < 7]
    assert {tag for operation in operations for tag in operation["tags"]} == named


@pytest_twisted.ensureDeferred
async def test_operators_alone(tmp_path: Path) -> None:
    """Whatever the document says to be for operators is refused to everybody else, before anything
    else is looked at."""
    async with operated(tmp_path) as registry:
        document = json.loads((await registry.server.ask("/api/openapi.json")).body)
        asked = 0
        for path, item in document["paths"].items():
            for method in item.keys() & {"get", "post", "delete"}:
                if item[method]["security"] == [{"operator": []}]:
                    real = re.sub("{[^}]*}", "x", path)
                    answer = await registry.server.ask(real, method.upper())
                    assert (answer.status, path, method) == (401, path, method)
                    asked += 1
        assert asked >= 5
