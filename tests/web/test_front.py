"""Every request's way to its answer, whatever it is for."""

import json
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.logger import capturedLogs, formatEvent

from nixery.http.answers import LOGGED
from nixery.web.access_log import NoMeter
from tests.history.histories import open_history
from tests.web.server import FakeBuilder, serving


class Meter(NoMeter):
    """Remembers the kinds of requests."""

    def __init__(self) -> None:
        self.kinds: list[str] = []

    def answered(self, kind: str, status: int, sent: int, seconds: float) -> None:
        self.kinds.append(kind)


KINDS = {
    "/v2/x/manifests/latest": "manifest",
    "/v2/a/b/manifests/a!b": "manifest",
    "/v2/x/blobs/sha256:0": "blob",
    "/v2/": "registry",
    "/v2": "registry",
    "/v2/x/tags/list": "registry",
    "/v2/nothing": "registry",
    "/healthz": "operations",
    "/metrics": "operations",
    "/": "page",
    "/builds": "page",
    "/nothing": "page",
    "/%76%32/": "page",
    "//v2/": "page",
}


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(("path", "kind"), KINDS.items(), ids=KINDS)
async def test_kinds(path: str, kind: str) -> None:
    """Each request is counted as what its route says, be there an answer or not."""
    meter = Meter()
    async with serving(meter=meter) as server:
        await server.ask(path)
        await server.until(lambda: bool(meter.kinds))
        assert meter.kinds == [kind]


class Faulty(FakeBuilder):
    """Fails in a way that nobody thought of."""

    async def manifest(self, *args: Any, **kwargs: Any) -> Any:
        raise ZeroDivisionError("of the test")

    async def provenance(self) -> Any:
        raise ZeroDivisionError("of the test")

    tags = provenance


PATHS = ("/v2/x/manifests/latest", "/v2/x/tags/list", "/")


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("accept", ["*/*", "text/html"])
@pytest.mark.parametrize("path", PATHS)
async def test_faults(path: str, accept: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody expects is answered in the form of its route, and logged once, with the ID that
    the answer has; the answer says nothing of it."""
    for name in ("manifest", "tags", "provenance"):
        monkeypatch.setattr(FakeBuilder, name, getattr(Faulty, name))
    async with serving() as server:
        with capturedLogs() as captured:
            answer = await server.ask(path, headers={"Accept": accept})
    assert answer.status == 500
    assert b"of the test" not in answer.body
    (fault,) = [event for event in captured if "log_failure" in event]
    assert fault["request"] == answer.headers["x-request-id"]
    assert path in (formatEvent(fault) or "")
    if path != "/":
        assert answer.error()["message"] == LOGGED
    else:
        assert b"Something went wrong here" in answer.body
        assert (b"<html" in answer.body) == (accept == "text/html")


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("path", "accept", "is_page"),
    [
        ("/builds/0123", "text/html", True),
        ("/builds/0123", "*/*", False),
        ("/builds/0123/log", "text/html", False),
        ("/v2/nothing", "text/html", False),
        ("/images/nothing", "text/html", True),
        ("/nothing", "text/html", True),
        ("/nothing", "*/*", False),
    ],
)
async def test_what_is_not_there(path: str, accept: str, is_page: bool, tmp_path: Path) -> None:
    """In a browser, what has pages has one for what is not there; the rest are documents."""
    history = await open_history(tmp_path)
    async with serving(history=history) as server:
        answer = await server.ask(path, headers={"Accept": accept})
        assert answer.status == 404
        if is_page:
            assert answer.headers["content-type"].startswith("text/html")
        else:
            assert json.loads(answer.body)["errors"][0]["code"] == "NOT_FOUND"
    await history.stop()
